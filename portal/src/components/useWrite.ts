import { ref, type Ref } from "vue";
import { isAborted, problemOf } from "../api/problem";
import { text } from "../text/en";

export interface Write {
  readonly running: Ref<boolean>;
  /** Why the last try failed, in plain words. Empty: it did not. */
  readonly failure: Ref<string>;
  /** Runs `work` unless it runs already. Resolves to whether it succeeded. */
  readonly run: (work: () => Promise<unknown>) => Promise<boolean>;
}

/** `subject`: of what the write is, for people. */
export function useWrite(subject: () => { readonly kind: string; readonly name: string }): Write {
  const running = ref(false);
  const failure = ref("");
  return {
    running,
    failure,
    async run(work) {
      if (running.value) return false;
      running.value = true;
      failure.value = "";
      try {
        await work();
        return true;
      } catch (error) {
        if (!isAborted(error)) failure.value = writeFailure(error, subject(), text.problems.write.againHere);
        return false;
      } finally {
        running.value = false;
      }
    },
  };
}

/** `whenUnknown`: what to do where it is not known whether it was done. */
export function writeFailure(error: unknown, { kind, name }: { readonly kind: string; readonly name: string }, whenUnknown: string = text.problems.write.lookFirst): string {
  const problem = problemOf(error);
  const words = text.problems.write;
  switch (problem.kind) {
    case "exists":
      return kind === "Secret" ? words.secretExists(name) : words.exists(kind, name);
    case "unreachable":
      return `${words.unreachable} ${whenUnknown}`;
    case "invalid":
      return `${words.invalid} ${shortened(problem.detail)}`;
    case "other":
      return `${words.other} ${problem.detail}`;
    default:
      return words[problem.kind];
  }
}

/** kcp begins with what the person knows: the kind and the name of the object. */
function shortened(detail: string): string {
  return detail.replace(/^.*? is invalid: /, "");
}
