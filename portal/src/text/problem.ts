import type { Problem } from "../api/problem";
import { text } from "./en";

/** What a page says of a problem that it has met with reading. */
export function wordsOf({ kind }: Problem): { readonly title: string; readonly body: string } {
  return kind === "preparing" || kind === "session" || kind === "forbidden" || kind === "missing" || kind === "unreachable" ? text.problems[kind] : text.problems.other;
}

export function titleOf(problem: Problem): string {
  return wordsOf(problem).title;
}
