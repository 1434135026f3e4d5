import type { Connection } from "../api/objects";
import { text } from "../text/en";

export type Capability = NonNullable<NonNullable<NonNullable<Connection["status"]>["capabilities"]>[number]>;

export function capabilitiesOf(connection: Connection): Capability[] {
  return (connection.status?.capabilities ?? []).filter((capability): capability is Capability => capability !== null);
}

/** The host's page on which the credential can be given what it lacks. */
export function credentialPage(connection: Connection): string | undefined {
  const host = connection.status?.host || hostOf(connection.spec?.baseURL) || "github.com";
  if (!/^[A-Za-z0-9.-]+(:\d+)?$/.test(host)) return undefined;
  return `https://${host}${PAGES[kindOf(connection)]}`;
}

type CredentialKind = "app" | "fine-grained" | "oauth" | "classic";

const PAGES: Readonly<Record<CredentialKind, string>> = {
  app: "/settings/installations",
  "fine-grained": "/settings/personal-access-tokens",
  oauth: "/settings/applications",
  classic: "/settings/tokens",
};

function kindOf(connection: Connection): CredentialKind {
  const type = connection.status?.tokenType;
  if (connection.spec?.type === "github-app" || type === "installation") return "app";
  if (type === "fine-grained") return "fine-grained";
  return type === "oauth" || type === "app-user" || (!type && connection.spec?.type === "oauth") ? "oauth" : "classic";
}

/** Where a new personal access token is made, with the scopes that everything here needs. */
export function newTokenPage(baseURL: string): string | undefined {
  const host = baseURL ? hostOf(baseURL) : "github.com";
  return host && `https://${host}/settings/tokens/new?scopes=repo,delete_repo,read:packages&description=code-provider`;
}

function hostOf(url: string | null | undefined): string | undefined {
  try {
    return url ? new URL(url).host : undefined;
  } catch {
    return undefined;
  }
}

export interface Expiry {
  readonly tone: "good" | "soon" | "over";
  readonly words: string;
}

const DAY = 86_400_000;
/** Days before the end at which a page begins to warn. */
const SOON = 14;

/** When the credential ends. Undefined: the host does not tell. */
export function expiryOf(connection: Connection, now: number): Expiry | undefined {
  const end = Date.parse(connection.status?.expiresAt ?? "");
  if (Number.isNaN(end)) return undefined;
  const days = Math.floor((end - now) / DAY);
  if (end <= now) return { tone: "over", words: text.credential.expired };
  return { tone: days < SOON ? "soon" : "good", words: text.credential.expiresIn(days) };
}
