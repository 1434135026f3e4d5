import { computed, reactive, ref, type ComputedRef } from "vue";
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
 * A form over fields of an object's spec. `read` gives the fields as the form shows them, `written` turns the form's value of a field
 * into the one of spec.
 */
export function useEdit<Form extends Record<string, string | boolean>>(
  kind: WritableKind,
  object: () => AnyObject,
  read: (object: AnyObject) => Form,
  written: (field: keyof Form & string, value: string | boolean) => string | boolean | null,
  reload: () => Promise<void>,
): Edit<Form> {
  const { client } = useSession();
  const base = ref(read(object())) as { value: Form };
  const version = ref(object().metadata?.resourceVersion);
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
      await update(client, kind, object().metadata?.name ?? "", changes.value, version.value);
    } catch (error) {
      if (error instanceof Problem && error.kind === "conflict") await rebase();
      throw error;
    }
  }

  async function rebase(): Promise<void> {
    await reload();
    const mine = { ...form };
    const before = base.value;
    base.value = read(object());
    version.value = object().metadata?.resourceVersion;
    // What was not touched here is shown as it is now.
    for (const field of Object.keys(form)) {
      Reflect.set(form, field, mine[field] === before[field] ? base.value[field] : mine[field]);
    }
  }

  return { form, changes, save };
}
