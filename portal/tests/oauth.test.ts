// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createApp, defineComponent, h, shallowRef } from "vue";
import { useOAuth, type Grant, type OAuth } from "../src/dialogs/useOAuth";
import { SESSION, type Session } from "../src/session/session";
import { json, serve, until } from "./server";

const START = "https://hub.example/services/providers/code/oauth/github/start";
let popup: { closed: boolean };
let opened: URL[];

beforeEach(() => {
  popup = { closed: false };
  opened = [];
  vi.stubGlobal("open", (url: URL) => {
    opened.push(url);
    return popup;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function begun(config: object = { enabled: true, startURL: START, scopes: "repo" }): Promise<{ oauth: OAuth; grants: Grant[]; asked: ReturnType<typeof serve> }> {
  const asked = serve(() => json(config));
  let oauth: OAuth | undefined;
  const app = createApp(
    defineComponent(() => {
      oauth = useOAuth();
      return () => h("p");
    }),
  );
  const context = shallowRef({ tenant: "one", token: "t", orgUUID: "o", workspaceUUID: "w" });
  app.provide(SESSION, { context, client: { signal: new AbortController().signal } } as unknown as Session);
  app.mount(document.createElement("div"));
  await until(() => asked.length > 0);
  await Promise.resolve();
  const made = oauth as OAuth;
  const grants: Grant[] = [];
  if ((config as { enabled?: boolean }).enabled) {
    await until(() => made.config.value.enabled);
    made.begin((grant) => grants.push(grant));
  }
  return { oauth: made, grants, asked };
}

function message(data: object, { source = popup as unknown, origin = "https://hub.example" } = {}): void {
  // The constructor takes windows only.
  const event = new MessageEvent("message", { data, origin });
  Object.defineProperty(event, "source", { value: source });
  window.dispatchEvent(event);
}

const state = () => opened[0]?.searchParams.get("state") ?? "";
const granted = () => ({ type: "kedge-github-oauth", state: state(), token: "gho_x", login: "rita", scopes: "repo", error: "" });

test("the window opens on the real address, with a state of 32 hex digits", async () => {
  const { oauth, asked } = await begun();
  expect(asked[0]).toMatchObject({ url: "/services/providers/code/oauth/github/config", headers: { Authorization: "Bearer t", "X-Kedge-Org": "o", "X-Kedge-Workspace": "w" } });
  expect(opened[0]?.href).toBe(`${START}?state=${state()}`);
  expect(state()).toMatch(/^[0-9a-f]{32}$/);
  expect(oauth.waiting.value).toBe(true);
});

test("the message of the window that was opened gives the token, once", async () => {
  const { oauth, grants } = await begun();
  message(granted());
  message(granted());
  expect(grants).toEqual([{ token: "gho_x", login: "rita" }]);
  expect(oauth.waiting.value).toBe(false);
});

test.each([
  ["of another window", {}, { source: {} }],
  ["of another origin", {}, { origin: "https://evil.example" }],
  ["of another type", { type: "other" }, {}],
  ["of another flow", { state: "0".repeat(32) }, {}],
])("a message %s is ignored", async (_, change, from) => {
  const { oauth, grants } = await begun();
  message({ ...granted(), ...change }, from);
  expect([grants, oauth.waiting.value]).toEqual([[], true]);
});

test("a refusal of GitHub is told", async () => {
  const { oauth, grants } = await begun();
  message({ ...granted(), token: "", error: "access denied" });
  expect(grants).toEqual([]);
  expect(oauth.failure.value).toContain("access denied");
});

test("a window that is closed, or that the browser blocks, is told", async () => {
  const { oauth } = await begun();
  popup.closed = true;
  await until(() => oauth.failure.value);
  expect(oauth.failure.value).toContain("closed before");
  vi.stubGlobal("open", () => null);
  oauth.begin(() => undefined);
  expect(oauth.failure.value).toContain("blocked");
});

test.each([{ enabled: false }, { enabled: true }, { enabled: true, startURL: "javascript:alert(1)" }])("with the configuration %j it is not offered", async (config) => {
  const asked = serve(() => json(config));
  let oauth: OAuth | undefined;
  const app = createApp(defineComponent(() => ((oauth = useOAuth()), () => h("p"))));
  app.provide(SESSION, { context: shallowRef({}), client: { signal: new AbortController().signal } } as unknown as Session);
  app.mount(document.createElement("div"));
  await until(() => asked.length > 0);
  await new Promise((resolve) => setTimeout(resolve));
  expect(oauth?.config.value.enabled).toBe(false);
});
