import type { Client } from "../api/client";
import type { TypedDocument } from "../api/document";
import { labelOf, REPOSITORY_LABEL } from "../api/objects";
import {
  WatchCollaborators,
  WatchConnection,
  WatchConnections,
  WatchDeployKeys,
  WatchPackages,
  WatchRepositories,
  WatchRepository,
} from "../api/operations.gen";
import type { Subscribe } from "./useLive";

type Version = string | null | undefined;

export const watchConnections = (client: Client, version: Version) => opened(client, WatchConnections, { version });
export const watchConnection = (client: Client, name: string, version: Version) => opened(client, WatchConnection, { name, version });
export const watchRepositories = (client: Client, version: Version) => opened(client, WatchRepositories, { version });
export const watchRepository = (client: Client, name: string, version: Version) => opened(client, WatchRepository, { name, version });
export const watchPackages = (client: Client, version: Version) => opened(client, WatchPackages, { selector: null, version });
export const watchDeployKeys = (client: Client, repository: string, version: Version) => labelled(client, WatchDeployKeys, repository, version);
export const watchCollaborators = (client: Client, repository: string, version: Version) => labelled(client, WatchCollaborators, repository, version);

function opened<Variables>(client: Client, document: TypedDocument<unknown, Variables>, variables: Variables): Subscribe {
  return ({ opened, changed }, signal) => client.subscribe(document, variables, { opened, next: changed }, signal);
}

function labelled(client: Client, document: TypedDocument<unknown, { selector?: string | null; version?: Version }>, repository: string, version: Version): Subscribe {
  return async (handlers, signal) => {
    const selector = `${REPOSITORY_LABEL}=${await labelOf(repository)}`;
    await opened(client, document, { selector, version })(handlers, signal);
  };
}
