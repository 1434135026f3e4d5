import type {
  CollaboratorFieldsFragment,
  ConnectionFieldsFragment,
  DeployKeyFieldsFragment,
  PackageFieldsFragment,
  RepositoryFieldsFragment,
} from "./operations.gen";

export type Connection = ConnectionFieldsFragment;
export type Repository = RepositoryFieldsFragment;
export type DeployKey = DeployKeyFieldsFragment;
export type Collaborator = CollaboratorFieldsFragment;
export type Package = PackageFieldsFragment;

export type Kind = "Connection" | "Repository" | "DeployKey" | "Collaborator" | "Package";
/** What every kind has, as far as the portal reads it. */
export type AnyObject = Connection | Repository | DeployKey | Collaborator | Package;
export type Condition = NonNullable<NonNullable<NonNullable<AnyObject["status"]>["conditions"]>[number]>;

export const API_VERSION = "code.kedge.faros.sh/v1alpha1";
export const PAUSED = "code.kedge.faros.sh/paused";
export const RECONCILE_REQUESTED_AT = "code.kedge.faros.sh/reconcile-requested-at";
/** On what a form of the portal made: a random id, by which the form knows it again. */
export const PORTAL_REQUEST = "code.kedge.faros.sh/portal-request";
export const REPOSITORY_LABEL = "code.kedge.faros.sh/repository";
/** Where Secrets are when a reference names no namespace. */
export const DEFAULT_NAMESPACE = "default";

export function nameOf(object: AnyObject): string {
  return object.metadata?.name ?? "";
}

export function conditionsOf(object: AnyObject): Condition[] {
  return (object.status?.conditions ?? []).filter((condition): condition is Condition => condition !== null);
}

export function conditionOf(object: AnyObject, type: string): Condition | undefined {
  return conditionsOf(object).find((condition) => condition.type === type);
}

export function isTrue(object: AnyObject, type: string): boolean {
  return conditionOf(object, type)?.status === "True";
}

export function isDeleting(object: AnyObject): boolean {
  return Boolean(object.metadata?.deletionTimestamp);
}

export function isPaused(object: AnyObject): boolean {
  return object.metadata?.annotations?.[PAUSED] === "true";
}

/** Whether the status speaks of the present spec. */
export function isCurrent(object: AnyObject): boolean {
  const observed = object.status?.observedGeneration;
  return observed !== null && observed !== undefined && observed === object.metadata?.generation;
}

/** Owner and name of the repository on the host, as far as they are known. */
export function fullName(repository: Repository, connection?: Connection): string {
  const owner = repository.status?.owner || repository.spec?.owner || connection?.spec?.owner;
  const name = repository.spec?.name ?? nameOf(repository);
  return owner ? `${owner}/${name}` : name;
}

export const LONGEST_LABEL = 63;

/** The label's value for the children of a Repository, as the gateway's tools write it. Longer names than labels may have are cut. */
export async function labelOf(repository: string): Promise<string> {
  if (repository.length <= LONGEST_LABEL) return repository;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(repository));
  const hex = [...new Uint8Array(digest).slice(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${repository.slice(0, 54)}-${hex}`;
}

/** A name that kcp takes, from any text. */
export function objectName(...parts: readonly string[]): string {
  const name = parts
    .join("-")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 200)
    .replace(/^-+|-+$/g, "");
  return name || "unnamed";
}

/** `url` if a link may lead there. What a host answered decides it, so a scheme that runs a script must not pass. */
export function safeUrl(url: string | null | undefined): string | undefined {
  if (!url) return undefined;
  try {
    const { protocol } = new URL(url);
    return protocol === "https:" || protocol === "http:" ? url : undefined;
  } catch {
    return undefined;
  }
}
