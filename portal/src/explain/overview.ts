import { nameOf, type Connection, type Repository } from "../api/objects";
import type { Route } from "../routes";
import { stateOf } from "./state";

export interface Broken {
  readonly route: Route;
  readonly name: string;
  readonly why: string;
}

/** What a tile of the dashboard says: first what needs action. */
export interface Overview {
  readonly broken: readonly Broken[];
  readonly working: number;
}

export function overviewOf(connections: readonly Connection[], repositories: readonly Repository[]): Overview {
  const rows = [
    ...connections.map((object) => ({ kind: "Connection" as const, object, route: { page: "connection", name: nameOf(object) } as const })),
    ...repositories.map((object) => ({ kind: "Repository" as const, object, route: { page: "repository", name: nameOf(object) } as const })),
  ].map((row) => ({ ...row, state: stateOf(row.kind, row.object) }));
  return {
    // What waits for a person: a repository that waits for a broken connection is not broken itself. Of those that the Go provider
    // left, the reason alone says so.
    broken: rows
      .filter(({ state }) => state.reason !== "ConnectionNotReady")
      .filter(({ state }) => state.tone === "bad" || state.tone === "paused" || (state.actor !== undefined && state.actor !== "nobody"))
      .map(({ route, object, state }) => ({ route, name: nameOf(object), why: state.reason || state.badge })),
    working: rows.filter(({ state }) => state.tone === "busy" && state.actor === "nobody").length,
  };
}
