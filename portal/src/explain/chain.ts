import type { AnyObject, Kind } from "../api/objects";
import { text } from "../text/en";
import { remarksOf, stateOf, type Actor, type Remark, type State } from "./state";

/** One object on the way from what is shown to what it depends on. `object` null: it does not exist; undefined: it is not known. */
export interface Link {
  readonly kind: Kind;
  readonly name: string;
  readonly object: AnyObject | null | undefined;
}

export interface Explanation {
  /** Kind and name of the object that is explained. */
  readonly subject: string;
  readonly state: State;
  /** Whole sentences. */
  readonly sentences: readonly string[];
  /** Words of the status of the object at fault. */
  readonly message: string;
  readonly actor: Actor;
  readonly who: string;
  readonly todo: string;
  /** The object at fault, if it is not the first one. */
  readonly cause?: { readonly kind: Kind; readonly name: string };
  readonly remarks: readonly Remark[];
}

/**
 * Why an object is not ready, and who must do what. The cause is the last link that has a problem, because the ones before it wait
 * for that.
 */
export function explain(links: readonly [Link & { readonly object: AnyObject }, ...Link[]]): Explanation {
  const [first] = links;
  const states = links.map((link) => ({ link, state: stateOfLink(link) }));
  const own = states[0]?.state as State;
  const atFault = states.filter(({ state }) => state?.actor !== undefined).at(-1);
  const sentences = states
    .filter(({ state }, index) => state && (index === 0 || state.actor !== undefined))
    .map(({ link, state }) => text.explain.link(link.kind, link.name, (state as State).sentence));
  const elsewhere = atFault && atFault.link !== first ? atFault.link : undefined;
  if (elsewhere) {
    sentences.push(own.actor === undefined ? text.explain.willWait(first.kind, elsewhere.kind, elsewhere.name) : text.explain.cause(elsewhere.kind, elsewhere.name));
  }
  const actor = atFault?.state?.actor ?? "nobody";
  return {
    subject: `${first.kind} ${first.name}`,
    state: own,
    sentences,
    message: (atFault?.state ?? own).message,
    actor,
    who: atFault ? text.explain.actors[actor] : text.explain.nothingToDo,
    todo: atFault?.state?.todo ?? "",
    cause: elsewhere && { kind: elsewhere.kind, name: elsewhere.name },
    // What the state says already is not said twice.
    remarks: remarksOf(first.object).filter(({ type }) => type !== own.reason),
  };
}

function stateOfLink({ kind, name, object }: Link): State | undefined {
  if (object === undefined) return undefined;
  if (object === null) {
    const missing = text.explain.missing;
    return { tone: "bad", badge: text.state.needsAction, sentence: missing.sentence, message: "", actor: "workspace", todo: missing.todo(kind, name) };
  }
  return stateOf(kind, object);
}
