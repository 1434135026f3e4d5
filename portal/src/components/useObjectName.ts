import { computed, ref, type WritableComputedRef } from "vue";

/** The name of an object that is being made: what was typed for it, else what `suggested` makes of the other fields. */
export function useObjectName(suggested: () => string): WritableComputedRef<string> {
  const typed = ref("");
  return computed({ get: () => typed.value || suggested(), set: (value: string) => (typed.value = value) });
}
