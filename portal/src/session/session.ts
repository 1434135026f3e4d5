import { inject, type InjectionKey, type ShallowRef } from "vue";
import type { Client } from "../api/client";
import type { KedgeContext } from "../context";
import { pathOf, type Route } from "../routes";

/** What every page needs: who asks, in which workspace, and how to go elsewhere. One for each workspace that is shown. */
export interface Session {
  readonly context: Readonly<ShallowRef<KedgeContext>>;
  readonly client: Client;
  readonly navigate: (route: Route) => void;
  /** The URL of a page, so that it can be opened in another tab. */
  readonly href: (route: Route) => string;
  readonly notify: (message: string, tone?: "good" | "bad") => void;
}

export const SESSION: InjectionKey<Session> = Symbol("session");

export function useSession(): Session {
  const session = inject(SESSION);
  if (!session) throw new Error("no session is provided");
  return session;
}

export function hrefOf(context: KedgeContext, route: Route): string {
  return `${(context.basePath ?? "/ui/providers/code").replace(/\/$/, "")}/${pathOf(route)}`;
}
