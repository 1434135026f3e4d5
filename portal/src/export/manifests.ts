import { API_VERSION, REPOSITORY_LABEL, type AnyObject, type Kind } from "../api/objects";
import type { Json } from "./yaml";

export type Fields = { readonly [key: string]: Json | undefined };

export interface Manifest {
  readonly [key: string]: Json | undefined;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: { readonly [key: string]: string } };
  readonly spec: Fields;
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
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .map(([key, value]) => [key, isRecord(value) ? withoutEmpty(value) : value]),
  );
}

function isRecord(value: Json | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A call of one of the gateway's MCP tools. */
export interface ToolCall {
  readonly name: string;
  readonly arguments: Fields;
  /** Fields of the object for which the tool has no argument. */
  readonly leftOut: readonly string[];
}

/** How the fields of spec are named as arguments. */
const ARGUMENTS: Readonly<Partial<Record<Kind, { readonly tool: string; readonly fields: Readonly<Record<string, string>> }>>> = {
  Connection: { tool: "create_connection", fields: { provider: "provider", owner: "owner", baseURL: "baseURL" } },
  Repository: {
    tool: "create_repository",
    fields: {
      connectionRef: "connectionRef",
      name: "repo",
      owner: "owner",
      visibility: "visibility",
      description: "description",
      defaultBranch: "defaultBranch",
      autoInit: "autoInit",
    },
  },
  DeployKey: {
    tool: "add_deploy_key",
    fields: { repositoryRef: "repositoryRef", title: "title", publicKey: "publicKey", readOnly: "readOnly" },
  },
  Collaborator: {
    tool: "add_collaborator",
    fields: { repositoryRef: "repositoryRef", username: "username", permission: "permission" },
  },
};

/** The call that makes what the manifest says. */
export function toolCallOf(manifest: Manifest): ToolCall {
  const { kind, metadata, spec } = manifest;
  const known = ARGUMENTS[kind as Kind];
  if (!known) return { name: "list_packages", arguments: { repositoryRef: spec.repositoryRef }, leftOut: [] };
  const call: Record<string, Json | undefined> = { name: metadata.name };
  const leftOut: string[] = [];
  for (const [field, value] of Object.entries(spec)) {
    const argument = known.fields[field];
    if (argument) call[argument] = value;
    else if (kind === "Connection" && field === "secretRef" && isRecord(value)) {
      Object.assign(call, { secretName: value.name, secretNamespace: value.namespace, secretKey: value.key });
    } else if (!(kind === "Connection" && field === "type" && value === "pat")) leftOut.push(field);
  }
  return { name: known.tool, arguments: call, leftOut };
}

export function toolCallText({ name, arguments: given }: ToolCall): string {
  return JSON.stringify({ name, arguments: given }, null, 2);
}
