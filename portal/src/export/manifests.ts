import { API_VERSION, REPOSITORY_LABEL, type AnyObject, type Kind } from "../api/objects";
import type { TOOLS } from "./tools.gen";
import type { Json } from "./yaml";

export type Fields = { readonly [key: string]: Json | undefined };

export interface Manifest {
  readonly [key: string]: Json | undefined;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: { readonly [key: string]: string } };
  /** Absent in a Secret. */
  readonly spec?: Fields;
}

/** What a tenant would keep in Git of the object. `label`: see `labelOf`. */
export function manifestOf(kind: Kind, name: string, spec: Fields, label?: string): Manifest {
  const metadata = label ? { name, labels: { [REPOSITORY_LABEL]: label } } : { name };
  return { apiVersion: API_VERSION, kind, metadata, spec: withoutEmpty(spec) };
}

export function manifestOfObject(kind: Kind, object: AnyObject, label?: string): Manifest {
  return manifestOf(kind, object.metadata?.name ?? "", (object.spec ?? {}) as Fields, label);
}

function withoutEmpty(fields: Fields): Fields {
  return Object.fromEntries(
    Object.entries(fields)
      // An empty description is a description: the host's is emptied.
      .filter(([key, value]) => value !== undefined && value !== null && (value !== "" || key === "description"))
      .map(([key, value]) => [key, isRecord(value) ? withoutEmpty(value) : value]),
  );
}

function isRecord(value: Json | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The Secret of a Connection, with a place for the token: it never leaves its form as text. */
export function tokenManifestOf({ name, namespace, key }: { readonly name: string; readonly namespace: string; readonly key: string }): Manifest {
  return { apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, type: "Opaque", stringData: { [key]: "…" } };
}

/** A call of one of the gateway's MCP tools. */
export interface ToolCall {
  readonly name: string;
  readonly arguments: Fields;
  /** Fields of the object for which the tool has no argument. */
  readonly leftOut: readonly string[];
}

interface Known {
  readonly tool: keyof typeof TOOLS;
  readonly fields: Readonly<Record<string, string>>;
  readonly unset: Fields;
}

/** A tool, and how the fields of spec are named as its arguments. `unset`: what the API means by an absent field and the tool does not. */
function known<Tool extends keyof typeof TOOLS>(tool: Tool, fields: Readonly<Record<string, (typeof TOOLS)[Tool][number]>>, unset: Fields = {}): Known {
  return { tool, fields, unset };
}

const ARGUMENTS: Readonly<Partial<Record<Kind, Known>>> = {
  Connection: known("create_connection", { provider: "provider", owner: "owner", baseURL: "baseURL" }),
  Repository: known(
    "create_repository",
    {
      connectionRef: "connectionRef",
      name: "repo",
      owner: "owner",
      visibility: "visibility",
      description: "description",
      defaultBranch: "defaultBranch",
      autoInit: "autoInit",
    },
    { autoInit: false },
  ),
  DeployKey: known("add_deploy_key", { repositoryRef: "repositoryRef", title: "title", publicKey: "publicKey", readOnly: "readOnly" }),
  Collaborator: known("add_collaborator", { repositoryRef: "repositoryRef", username: "username", permission: "permission" }, { permission: "push" }),
};
/** Which argument of `create_repository` takes objects of a kind that are made with the Repository. */
const CHILDREN: Readonly<Record<string, (typeof TOOLS)["create_repository"][number]>> = { DeployKey: "deployKeys", Collaborator: "collaborators" };

/** The call that makes what the manifests say. The first is the object itself; a Secret has to be there already. */
export function toolCallOf({ kind, metadata, spec = {} }: Manifest, ...more: readonly Manifest[]): ToolCall {
  const how = ARGUMENTS[kind as Kind];
  if (!how) return { name: "list_packages", arguments: { repositoryRef: spec.repositoryRef }, leftOut: [] };
  const given: Record<string, Json | undefined> = { name: metadata.name };
  const leftOut: string[] = [];
  for (const [field, value] of Object.entries({ ...how.unset, ...spec })) {
    const argument = how.fields[field];
    if (argument) given[argument] = value;
    else if (kind === "Connection" && field === "secretRef" && isRecord(value)) {
      Object.assign(given, { secretName: value.name, secretNamespace: value.namespace, secretKey: value.key });
    } else if (!(kind === "Connection" && field === "type" && value === "pat")) leftOut.push(field);
  }
  for (const child of kind === "Repository" ? more : []) {
    const argument = CHILDREN[child.kind];
    if (!argument) continue;
    const call = toolCallOf(child);
    given[argument] = [...((given[argument] as readonly Json[] | undefined) ?? []), { ...call.arguments, repositoryRef: undefined }];
    leftOut.push(...call.leftOut);
  }
  return { name: how.tool, arguments: given, leftOut };
}

/** The call that deletes the object, if there is a tool for it. `onHost`: the full name of a repository, which confirms it. */
export function deleteCallOf(kind: string, name: string, onHost?: string): ToolCall | undefined {
  switch (kind) {
    case "Repository":
      return call("delete_repository", { name, confirm: onHost });
    case "DeployKey":
      return call("delete_deploy_key", { name });
    case "Collaborator":
      return call("remove_collaborator", { name });
    default:
      return undefined;
  }
}

function call<Tool extends keyof typeof TOOLS>(name: Tool, given: { readonly [argument in (typeof TOOLS)[Tool][number]]?: Json }): ToolCall {
  return { name, arguments: given, leftOut: [] };
}

export function toolCallText({ name, arguments: given }: ToolCall): string {
  return JSON.stringify({ name, arguments: given }, null, 2);
}
