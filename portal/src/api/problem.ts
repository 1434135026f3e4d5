/**
 * What went wrong with a request, as far as a page tells it apart:
 * - `preparing`: the workspace has no schema yet, or one that lacks our API. It comes within seconds of enabling the provider.
 * - `session`: the token is not accepted any more.
 * - `unreachable`: no answer, or one of something in between.
 */
export type ProblemKind =
  | "preparing"
  | "session"
  | "forbidden"
  | "missing"
  | "exists"
  | "conflict"
  | "invalid"
  | "unreachable"
  | "other";

export class Problem extends Error {
  constructor(
    readonly kind: ProblemKind,
    /** What the server said, for people. Shown as text, never as markup. */
    readonly detail = "",
  ) {
    super(detail || kind);
    this.name = "Problem";
  }
}

export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem("other", error instanceof Error ? error.message : String(error));
}

export function isAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

// kcp's and the gateway's words, which have no codes. The first that matches wins.
const WORDS: readonly (readonly [RegExp, ProblemKind])[] = [
  [/cannot query field|unknown (argument|type|field)|unknown operation/i, "preparing"],
  [/the server could not find the requested resource|no matches for kind/i, "preparing"],
  [/unauthori[sz]ed|token (has )?expired|provide credentials/i, "session"],
  [/is forbidden|forbidden:|access denied|not permitted/i, "forbidden"],
  [/already exists/i, "exists"],
  [/object has been modified|please apply your changes to the latest version|precondition failed/i, "conflict"],
  [/is invalid|invalid value|required value|unsupported value|admission webhook/i, "invalid"],
  [/not found/i, "missing"],
];

export function kindOfMessage(message: string): ProblemKind {
  return WORDS.find(([words]) => words.test(message))?.[1] ?? "other";
}

export function kindOfStatus(status: number): ProblemKind {
  if (status === 401) return "session";
  if (status === 403) return "forbidden";
  if (status === 404) return "preparing";
  if (status === 409) return "conflict";
  if (status === 429 || status >= 500) return "unreachable";
  return "other";
}
