import {
  conditionOf,
  conditionsOf,
  isCurrent,
  isDeleting,
  isPaused,
  isTrue,
  type AnyObject,
  type Condition,
  type Kind,
} from "../api/objects";
import { CONDITION_TYPES, REASONS } from "../text/reasons.gen";
import { text } from "../text/en";

/** Who has to act, as the gateway's tool `explain` says it. */
export type Actor = "nobody" | "workspace" | "hostAccount" | "invitedUser" | "operator";
export type Tone = "good" | "busy" | "bad" | "paused";

/** What is to be said of one object. It does not look at the objects that this one depends on. */
export interface State {
  readonly tone: Tone;
  /** Two words for a badge. */
  readonly badge: string;
  /** A sentence without its subject. */
  readonly sentence: string;
  /** The words of the status. They come from users and from the host. */
  readonly message: string;
  readonly reason?: string;
  readonly actor?: Actor;
  readonly todo?: string;
}

/** The same order of questions as the gateway's `explain`. */
export function stateOf(kind: Kind, object: AnyObject): State {
  const words = text.state;
  const [stalled, reconciling] = [conditionOf(object, "Stalled"), conditionOf(object, "Reconciling")];
  const [deleting, current] = [isDeleting(object), isCurrent(object)];
  if (isPaused(object)) {
    return { tone: "paused", badge: words.paused, sentence: words.pausedSentence, message: "", actor: "workspace", todo: words.unpause };
  }
  if (stalled?.status === "True" && current) {
    return { ...told(stalled, deleting ? words.deletionStalled : words.stalled), tone: "bad", actor: actorOf(stalled, "workspace") };
  }
  if (isReady(kind, object) && !deleting) {
    const ready = { tone: "good" as const, badge: kind === "Connection" ? words.connected : words.ready, sentence: words.readySentence };
    return reconciling?.status === "True" && reconciling.reason
      ? { ...ready, sentence: words.readyAndWorkedOn, message: reconciling.message ?? "", reason: reconciling.reason }
      : { ...ready, message: "" };
  }
  if (reconciling?.status === "True" && current) {
    const actor = actorOf(reconciling, "nobody");
    const why = told(reconciling, deleting ? words.deleting : words.notReady);
    if (deleting) return { ...why, badge: words.deletingBadge, tone: "busy", actor };
    // It goes on by itself, but not before somebody of the workspace, or on the host, has done something.
    if (actor !== "nobody" && actor !== "invitedUser") return { ...why, tone: "bad", actor };
    return { ...why, badge: actor === "invitedUser" ? words.invited : words.working, tone: "busy", actor };
  }
  if (deleting) {
    return { tone: "busy", badge: words.deletingBadge, sentence: words.deletingSentence, message: "", actor: "nobody" };
  }
  const summary = conditionOf(object, kind === "Connection" ? "Validated" : "Ready") ?? conditionOf(object, "Ready");
  if (!summary || !current) {
    const sentence = summary ? words.changedSentence : words.unseenSentence;
    return { tone: "busy", badge: summary ? words.changed : words.unseen, sentence, message: "", actor: "nobody", todo: words.askOperator };
  }
  // Earlier providers wrote no Stalled: a False that they left is somebody's to mend.
  const failed = summary.status === "False";
  return { ...told(summary, words.notReady), tone: failed ? "bad" : "busy", actor: actorOf(summary, failed ? "workspace" : "nobody") };
}

/** Whether the object is as it should be, at its present spec. A Connection of an earlier provider has no Ready. */
export function isReady(kind: Kind, object: AnyObject): boolean {
  if (!isCurrent(object)) return false;
  if (conditionOf(object, "Ready")) return isTrue(object, "Ready");
  return kind === "Connection" && isTrue(object, "Validated");
}

// The table of reasons begins with the condition that a reason stands on, which a page shows beside it.
const STANDS_ON = /^On `\w+`(, and on `\w+`)?(, which is \w+)?[:.]\s*/;

/** Empty: the reason says no more than its condition. */
export function meaningOf(reason: string | null | undefined): string {
  const means = REASONS[reason ?? ""]?.means ?? "";
  const rest = means.replace(STANDS_ON, "");
  return plain(rest === means ? means : rest.charAt(0).toUpperCase() + rest.slice(1));
}

export function meaningOfType(type: string | null | undefined): string {
  return plain(CONDITION_TYPES[type ?? ""]);
}

/** The tables are written for pages that set code apart. */
function plain(words: string | undefined): string {
  return (words ?? "").replaceAll("`", "");
}

function told(condition: Condition, frame: (why: string) => string): State {
  const reason = condition.reason ?? "";
  const meaning = meaningOf(reason);
  return {
    tone: "bad",
    badge: text.state.needsAction,
    sentence: frame(meaning ? meaning.replace(/\.$/, "") : reason || text.state.noReason),
    message: condition.message ?? "",
    reason,
  };
}

const GOOD_WHEN_TRUE = new Set(["Ready", "Validated", "PackagesAvailable"]);

/** Who has to act on one condition; undefined: nobody. */
export function actorOn(condition: Condition): Exclude<Actor, "nobody"> | undefined {
  const isGood = condition.status === (GOOD_WHEN_TRUE.has(condition.type ?? "") ? "True" : "False");
  const actor = isGood ? "nobody" : actorOf(condition, condition.type === "Stalled" ? "workspace" : "nobody");
  return actor === "nobody" ? undefined : actor;
}

function actorOf(condition: Condition, otherwise: Actor): Actor {
  return (REASONS[condition.reason ?? ""]?.actor as Actor | undefined) ?? otherwise;
}

// That packages are mirrored is nothing to remark. Why they are not stands where they would.
const SUMMARY = new Set(["Ready", "Reconciling", "Stalled", "Validated", "PackagesAvailable"]);

export interface Remark {
  readonly type: string;
  readonly meaning: string;
  readonly message: string;
}

/** What else holds of the object, besides whether it is ready. */
export function remarksOf(object: AnyObject): Remark[] {
  return conditionsOf(object)
    .filter(({ type, status }) => status === "True" && type && !SUMMARY.has(type) && meaningOfType(type))
    .map(({ type, message }) => ({ type: type ?? "", meaning: meaningOfType(type), message: message ?? "" }));
}
