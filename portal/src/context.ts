/** What the hub's page gives the element as its property `kedgeContext`, a new object on every change. */
export interface KedgeContext {
  /** The path after `/providers/code/`. */
  readonly subPath?: string;
  /** The caller's bearer token for `/graphql` and `/services`. */
  readonly token?: string;
  readonly user?: { readonly email?: string; readonly userId?: string };
  /** ID of the logical cluster: the workspace that the page shows. */
  readonly tenant?: string;
  readonly orgUUID?: string;
  readonly workspaceUUID?: string;
  readonly theme?: "light" | "dark" | "system";
  readonly basePath?: string;
}

export const BACKEND = "/services/providers/code";

/** Headers that tell the hub which workspace a REST call is about. */
export function workspaceHeaders(context: KedgeContext): Record<string, string> {
  return {
    ...(context.token ? { Authorization: `Bearer ${context.token}` } : {}),
    ...(context.orgUUID ? { "X-Kedge-Org": context.orgUUID } : {}),
    ...(context.workspaceUUID ? { "X-Kedge-Workspace": context.workspaceUUID } : {}),
  };
}
