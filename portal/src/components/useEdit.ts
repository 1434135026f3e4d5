import { computed, nextTick, reactive, ref, type ComputedRef } from "vue";
import type { AnyObject } from "../api/objects";
import { Problem } from "../api/problem";
import { update, type WritableKind } from "../api/writes";
import type { Fields } from "../export/manifests";
import { useSession } from "../session/session";

export interface Edit<Form> {
  readonly form: Form;
  /** What differs from the object as it was when the form was filled: null takes a field away. */
  readonly changes: ComputedRef<Fields>;
  /** Writes the changes. On a conflict the form is rebased on the newest object, and the error goes on. */
  readonly save: () => Promise<void>;
}

/**
 * A form over fields of an object's spec. `object` gives undefined for one that is being made, which is not saved here. `read` gives
 * the fields as the form shows them, `written` turns the form's value of a field into the one of spec.
 */
export function useEdit<Made extends AnyObject | undefined, Form extends Record<string, string | boolean>>(
  kind: Exclude<WritableKind, "Connection">,
  object: () => Made,
  read: (object: Made) => Form,
  written: (field: keyof Form & string, value: string | boolean) => string | boolean | null,
  reload: () => Promise<void>,
): Edit<Form> {
  const { client } = useSession();
  const base = ref(read(object())) as { value: Form };
  const generation = ref(object()?.metadata?.generation);
  const form = reactive({ ...base.value }) as Form;
  const changes = computed(() =>
    Object.fromEntries(
      Object.keys(form)
        .filter((field) => form[field] !== base.value[field])
        .map((field) => [field, written(field, form[field] as string | boolean)]),
    ),
  );

  async function save(): Promise<void> {
    try {
      await write(object()?.metadata);
    } catch (error) {
      if (!(error instanceof Problem) || error.kind !== "conflict") throw error;
      await reload();
      // The object comes as a property, which changes with the next rendering.
      await nextTick();
      if (object()?.metadata?.generation !== generation.value) {
        rebase();
        // An earlier try whose answer was lost, or another, has written the same.
        if (!Object.keys(changes.value).length) return;
        throw error;
      }
      // Only the status was written meanwhile, which is the provider's.
      await write(object()?.metadata);
    }
  }

  async function write(metadata: AnyObject["metadata"] | undefined): Promise<void> {
    if (metadata?.generation !== generation.value) throw new Problem("conflict");
    await update(client, kind, metadata?.name ?? "", changes.value, { version: metadata?.resourceVersion, generation: metadata?.generation });
  }

  function rebase(): void {
    const mine = { ...form };
    const before = base.value;
    base.value = read(object());
    generation.value = object()?.metadata?.generation;
    // What was not touched here is shown as it is now.
    for (const field of Object.keys(form)) {
      Reflect.set(form, field, mine[field] === before[field] ? base.value[field] : mine[field]);
    }
  }

  return { form, changes, save };
}
