import { nameOf, type Connection } from "../api/objects";

/** The connections for a choice, and `chosen`, which may be none of them any more. */
export function connectionOptions(connections: readonly Connection[], chosen?: string): Readonly<Record<string, string>> {
  const known = connections.map((connection) => [nameOf(connection), `${nameOf(connection)} (${connection.spec?.owner ?? ""})`]);
  return { ...(chosen === undefined ? {} : { [chosen]: chosen }), ...Object.fromEntries(known) };
}
