import type { Fields, Manifest } from "../export/manifests";
import type { Client } from "./client";
import type { TypedDocument } from "./document";
import { API_VERSION, DEFAULT_NAMESPACE, isDeleting, nameOf, PORTAL_REQUEST, RECONCILE_REQUESTED_AT, type AnyObject, type Connection, type Kind } from "./objects";
import * as operations from "./operations.gen";
import { Problem } from "./problem";
import { randomId } from "./randomId";
import { withFields } from "./yamlFields";

/** The kinds that a person makes. */
export type WritableKind = Exclude<Kind, "Package">;

/** The operations of all kinds take the same variables, and nobody reads their results. */
type ByKind<Variables> = Readonly<Record<WritableKind, TypedDocument<unknown, Variables>>>;
type Strings = Readonly<Record<WritableKind, string>>;

const CREATE: ByKind<{ object: Manifest }> = {
  Connection: operations.CreateConnection,
  Repository: operations.CreateRepository,
  DeployKey: operations.CreateDeployKey,
  Collaborator: operations.CreateCollaborator,
} as Strings as ByKind<{ object: Manifest }>;
const GET: ByKind<{ name: string }> = {
  Connection: operations.GetConnection,
  Repository: operations.GetRepository,
  DeployKey: operations.GetDeployKey,
  Collaborator: operations.GetCollaborator,
} as Strings as ByKind<{ name: string }>;
const UPDATE: ByKind<{ name: string; object: Fields }> = {
  Connection: operations.UpdateConnection,
  Repository: operations.UpdateRepository,
  DeployKey: operations.UpdateDeployKey,
  Collaborator: operations.UpdateCollaborator,
} as Strings as ByKind<{ name: string; object: Fields }>;
const DELETE: ByKind<{ name: string }> = {
  Connection: operations.DeleteConnection,
  Repository: operations.DeleteRepository,
  DeployKey: operations.DeleteDeployKey,
  Collaborator: operations.DeleteCollaborator,
} as Strings as ByKind<{ name: string }>;

const AS_YAML: Readonly<Record<Exclude<WritableKind, "Connection">, TypedDocument<unknown, { name: string }>>> = {
  Repository: operations.RepositoryAsYaml,
  DeployKey: operations.DeployKeyAsYaml,
  Collaborator: operations.CollaboratorAsYaml,
} as Readonly<Record<string, string>> as Readonly<Record<Exclude<WritableKind, "Connection">, TypedDocument<unknown, { name: string }>>>;

/** The one field that an operation asks of our API. */
function onlyField(result: unknown): unknown {
  const fields = (result as { code_kedge_faros_sh?: { v1alpha1?: object | null } | null } | undefined)?.code_kedge_faros_sh?.v1alpha1;
  return Object.values(fields ?? {})[0];
}

function yamlIn(result: unknown): string {
  const yaml = onlyField(result);
  if (typeof yaml !== "string") throw new Problem("other", "the answer holds no YAML");
  return yaml;
}

/** An object that was created. */
export interface Made {
  readonly name: string;
  readonly uid: string;
  /** As it is stored. */
  readonly spec: Fields;
}

/**
 * Creates the object. Fails with `exists` rather than overwrite one. `chosen`: fields of spec that nobody entered, and that another try
 * may choose otherwise.
 */
export type Create = (manifest: Manifest, chosen?: Fields) => Promise<Made>;

/**
 * How one form creates objects. The answer to a create may be lost after the server has done it. The form then looks, at once and when it
 * is sent again: an object that carries its id is taken as created. No other is, whatever it says: somebody else may have made it.
 */
export function creatorOf(client: Client): Create {
  /** Ids by what was sent. A form that was changed since asks for another object, which the one that is there is not. */
  const ids = new Map<string, string>();

  return async (manifest, chosen = {}) => {
    const kind = manifest.kind as WritableKind;
    const { name } = manifest.metadata;
    const sent = JSON.stringify(manifest);
    const id = ids.get(sent) ?? randomId();
    ids.set(sent, id);
    const spec = { ...manifest.spec, ...chosen };
    const object = { ...manifest, metadata: { ...manifest.metadata, annotations: { [PORTAL_REQUEST]: id } }, spec };
    try {
      return madeOf(onlyField(await client.request(CREATE[kind], { object })), name, spec);
    } catch (error) {
      if (!mayBeThere(error)) throw error;
      const found = onlyField(await seen(client.request(GET[kind], { name }))) as AnyObject | null | undefined;
      if (found?.metadata?.annotations?.[PORTAL_REQUEST] !== id || isDeleting(found)) throw error;
      return madeOf(found, name, spec);
    }
  };
}

/** Whether there may be an object that this create, or an earlier one of the same form, has made. */
function mayBeThere(error: unknown): boolean {
  return error instanceof Problem && (error.kind === "exists" || isLost(error));
}

/** Whether the server may have done what was asked although it did not say so. */
function isLost({ kind }: Problem): boolean {
  return kind === "unreachable" || kind === "other";
}

function madeOf(object: unknown, name: string, sent: Fields): Made {
  const { metadata, spec } = (object ?? {}) as Partial<Pick<AnyObject, "metadata" | "spec">>;
  return { name: metadata?.name ?? name, uid: metadata?.uid ?? "", spec: (spec as Fields | null | undefined) ?? sent };
}

/** What a look shows; undefined: it is not there, or may not be seen. */
async function seen<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (error instanceof Problem && (error.kind === "missing" || error.kind === "forbidden")) return undefined;
    throw error;
  }
}

/** The object on which changes are based. */
export interface Base {
  readonly version?: string | null;
  readonly generation?: number | null;
}

/**
 * Changes fields of the object's spec; null takes a field away. Nothing is written, and it fails with `conflict`, if the object is
 * not as in `base` any more.
 */
export async function update(client: Client, kind: Exclude<WritableKind, "Connection">, name: string, spec: Fields, base: Base): Promise<void> {
  if (Object.values(spec).includes(null)) return apply(client, kind, name, spec, base.generation);
  const metadata = base.version ? { metadata: { resourceVersion: base.version } } : {};
  await client.request(UPDATE[kind], { name, object: { ...metadata, spec } });
}

/**
 * Changes fields of spec of which some are taken away. The gateway drops the nulls of a merge, so the whole object is read and applied
 * with all changes, its labels and finalizers. A merge besides would leave half of an edit where the second write fails. The gateway
 * checks no version, so the object is read right before; and it makes what is gone anew, so what is being deleted is left alone.
 */
async function apply(client: Client, kind: keyof typeof AS_YAML, name: string, spec: Fields, generation: number | null | undefined): Promise<void> {
  const yaml = yamlIn(await client.request(AS_YAML[kind], { name }));
  // Lines of spec may look like any line.
  const [metadata = ""] = yaml.split("\nspec:\n");
  if (/^ +generation: (\d+)$/m.exec(metadata)?.[1] !== String(generation) || /^ +deletionTimestamp: /m.test(metadata)) throw new Problem("conflict");
  await client.request(operations.ApplyYaml, { yaml: withFields(yaml, spec) });
}

/** Deletes the object. That there is none any more is fine. */
export async function remove(client: Client, kind: WritableKind, name: string): Promise<void> {
  try {
    await client.request(DELETE[kind], { name });
  } catch (error) {
    if (!(error instanceof Problem) || error.kind !== "missing") throw error;
  }
}

/** Asks the provider to look at the object now. */
export async function requestReconcile(client: Client, kind: WritableKind, name: string, now = new Date()): Promise<void> {
  const annotations = { [RECONCILE_REQUESTED_AT]: now.toISOString() };
  await client.request(UPDATE[kind], { name, object: { metadata: { annotations } } });
}

/** Where the token of a Connection is, with what is left out filled in. */
export function secretOf(connection: Pick<Connection, "spec">): { readonly name: string; readonly namespace: string; readonly key: string } {
  const reference = connection.spec?.secretRef;
  return { name: reference?.name ?? "", namespace: reference?.namespace || DEFAULT_NAMESPACE, key: reference?.key || "token" };
}

/** A name for the Secret of a new Connection that no Secret has yet, as far as the caller may see. */
export async function freeSecretName(client: Client, connection: string): Promise<string> {
  const wanted = `${connection}-token`;
  const mayBeTaken = await hasSecret(client, wanted, DEFAULT_NAMESPACE);
  return mayBeTaken ? `${wanted}-${randomId().slice(0, 8)}` : wanted;
}

/** Also true where the caller may not read Secrets, which is no reason not to make one. */
async function hasSecret(client: Client, name: string, namespace: string): Promise<boolean> {
  try {
    await client.request(operations.FindSecret, { name, namespace });
    return true;
  } catch (error) {
    if (error instanceof Problem && (error.kind === "missing" || error.kind === "forbidden")) return error.kind === "forbidden";
    throw error;
  }
}

/**
 * Creates the Secret of a Connection that was just made. It goes with the Connection. One that carries `id` is from an earlier try, or
 * this one, whose answer was lost, and is given the token. Fails with `exists` if there is another. `id`: a random one of the form.
 */
export async function createToken(client: Client, owner: Pick<Made, "name" | "uid">, secret: SecretEntry, token: string, id: string): Promise<void> {
  try {
    await client.request(operations.CreateSecret, {
      namespace: secret.namespace,
      object: {
        metadata: {
          name: secret.name,
          namespace: secret.namespace,
          annotations: { [PORTAL_REQUEST]: id },
          ownerReferences: [{ apiVersion: API_VERSION, kind: "Connection", name: owner.name, uid: owner.uid }],
        },
        type: "Opaque",
        stringData: { [secret.key]: token },
      },
    });
  } catch (error) {
    if (!mayBeThere(error)) throw error;
    const found = await seen(client.request(operations.FindSecret, { name: secret.name, namespace: secret.namespace }));
    const metadata = found?.v1?.Secret?.metadata;
    if (metadata?.annotations?.[PORTAL_REQUEST] !== id) throw error;
    await updateToken(client, secret, token, metadata.resourceVersion);
  }
}

type SecretEntry = ReturnType<typeof secretOf>;

/** `version`: fails with `conflict` if the Secret is another one by now. */
async function updateToken(client: Client, { name, namespace, key }: SecretEntry, token: string, version?: string | null): Promise<void> {
  const metadata = version ? { metadata: { resourceVersion: version } } : {};
  await client.request(operations.UpdateSecret, { name, namespace, object: { ...metadata, stringData: { [key]: token } } });
}

/** Puts another token into the Secret of a Connection, and makes the Secret if it is gone. */
export async function replaceToken(client: Client, connection: Connection, token: string): Promise<void> {
  const secret = secretOf(connection);
  try {
    await updateToken(client, secret, token);
  } catch (error) {
    if (!(error instanceof Problem) || error.kind !== "missing") throw error;
    await createToken(client, { name: nameOf(connection), uid: connection.metadata?.uid ?? "" }, secret, token, randomId());
  }
}
