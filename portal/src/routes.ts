/** The sub-paths of the portal. The last segment has no dot: the hub would take such a path for a file of ours on reload. */
export type Route =
  | { readonly page: "connections" }
  | { readonly page: "connection"; readonly name: string }
  | { readonly page: "repositories" }
  | { readonly page: "repository"; readonly name: string }
  | { readonly page: "packages" };

export function parseRoute(subPath: string | undefined): Route {
  const [path = ""] = (subPath ?? "").split(/[?#]/);
  const [page, name, ...rest] = path.split("/").filter(Boolean).map(decoded);
  const isDetail = name !== undefined && (rest.length === 0 || (rest.length === 1 && rest[0] === "overview"));
  if (page === "repositories") return isDetail ? { page: "repository", name } : { page: "repositories" };
  if (page === "packages") return { page: "packages" };
  if (page === "connections" && isDetail) return { page: "connection", name };
  return { page: "connections" };
}

export function pathOf(route: Route): string {
  switch (route.page) {
    case "connection":
      return `connections/${encodeURIComponent(route.name)}/overview`;
    case "repository":
      return `repositories/${encodeURIComponent(route.name)}/overview`;
    default:
      return route.page;
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
