import type { Client } from "./client";
import { labelOf, REPOSITORY_LABEL, type Collaborator, type Connection, type DeployKey, type Package, type Repository } from "./objects";
import {
  GetConnection,
  GetRepository,
  ListCollaborators,
  ListConnections,
  ListDeployKeys,
  ListPackages,
  ListRepositories,
} from "./operations.gen";
import { Problem } from "./problem";

/** Objects of one list request. */
const PAGE = 100;
/** No page shows more objects of one kind than this. */
export const MOST = 2_000;

export interface Listed<T> {
  readonly items: readonly T[];
  /** At which the list was read. A subscription goes on from there. */
  readonly version: string | undefined;
  /** How many there are in all, as far as it is known. More than there are items: the list was cut. */
  readonly total: number;
}

interface Page<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string | null;
  readonly continue: string | null;
  readonly remainingItemCount?: number | null;
}

/** Reads pages until there are `wanted` objects that `keep` keeps, or no more. */
async function pages<T>(next: (limit: number, from: string | null) => Promise<Page<T>>, wanted = MOST, keep?: (item: T) => boolean): Promise<Listed<T>> {
  const items: T[] = [];
  let from: string | null = null;
  let read = 0;
  for (;;) {
    const page: Page<T> = await next(Math.min(PAGE, MOST - read), from);
    read += page.items.length;
    items.push(...(keep ? page.items.filter(keep) : page.items));
    from = page.continue || null;
    if (!from || items.length >= wanted || read >= MOST) {
      const remaining = from ? Math.max(1, page.remainingItemCount ?? 1) : 0;
      return { items: items.slice(0, wanted), version: page.resourceVersion ?? undefined, total: items.length + remaining };
    }
  }
}

export function listConnections(client: Client, signal?: AbortSignal): Promise<Listed<Connection>> {
  return pages(async (limit, from) => api(await client.request(ListConnections, { limit, continue: from }, signal)).Connections);
}

export function listRepositories(client: Client, signal?: AbortSignal, wanted?: number, keep?: (item: Repository) => boolean): Promise<Listed<Repository>> {
  return pages(async (limit, from) => api(await client.request(ListRepositories, { limit, continue: from }, signal)).Repositories, wanted, keep);
}

/** `repository`: the name of the object. Absent: those of all. */
export async function listPackages(client: Client, signal?: AbortSignal, repository?: string, wanted?: number): Promise<Listed<Package>> {
  const selector = repository === undefined ? null : `${REPOSITORY_LABEL}=${await labelOf(repository)}`;
  const keep = repository === undefined ? undefined : (item: Package) => item.spec?.repositoryRef === repository;
  return pages(async (limit, from) => api(await client.request(ListPackages, { selector, limit, continue: from }, signal)).Packages, wanted, keep);
}

export function listDeployKeys(client: Client, repository: string, signal?: AbortSignal): Promise<Listed<DeployKey>> {
  return children(
    repository,
    async (selector, limit, from) => api(await client.request(ListDeployKeys, { selector, limit, continue: from }, signal)).DeployKeys,
  );
}

export function listCollaborators(client: Client, repository: string, signal?: AbortSignal): Promise<Listed<Collaborator>> {
  return children(
    repository,
    async (selector, limit, from) => api(await client.request(ListCollaborators, { selector, limit, continue: from }, signal)).Collaborators,
  );
}

/** The children of a Repository: by label, and those that nobody has labelled yet. */
async function children<T extends { spec: { repositoryRef: string | null } | null }>(
  repository: string,
  next: (selector: string, limit: number, from: string | null) => Promise<Page<T>>,
): Promise<Listed<T>> {
  const label = await labelOf(repository);
  // A label is no proof: tenants write it, and a cut one may stand for several names.
  const keep = (item: T) => item.spec?.repositoryRef === repository;
  const [labelled, others] = await Promise.all([
    pages((limit, from) => next(`${REPOSITORY_LABEL}=${label}`, limit, from), MOST, keep),
    pages((limit, from) => next(`!${REPOSITORY_LABEL}`, limit, from), MOST, keep),
  ]);
  const items = [...labelled.items, ...others.items];
  return { items, version: labelled.version, total: labelled.total + others.total };
}

export async function getConnection(client: Client, name: string, signal?: AbortSignal): Promise<Connection> {
  return api(await client.request(GetConnection, { name }, signal)).Connection;
}

export async function getRepository(client: Client, name: string, signal?: AbortSignal): Promise<Repository> {
  return api(await client.request(GetRepository, { name }, signal)).Repository;
}

/** null: it does not exist. */
export async function findConnection(client: Client, name: string, signal?: AbortSignal): Promise<Connection | null> {
  try {
    return await getConnection(client, name, signal);
  } catch (error) {
    if (error instanceof Problem && error.kind === "missing") return null;
    throw error;
  }
}

/** What was read; undefined: the caller may not see it. A page goes on with what the caller may see. */
export async function ifAllowed<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof Problem && error.kind === "forbidden") return undefined;
    throw error;
  }
}

function api<T>(result: { readonly code_kedge_faros_sh: { readonly v1alpha1: T | null } | null }): T {
  const found = result.code_kedge_faros_sh?.v1alpha1;
  // The gateway answers null below a group that it does not know yet.
  if (!found) throw new Problem("preparing");
  return found;
}
