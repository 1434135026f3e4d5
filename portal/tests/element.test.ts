// @vitest-environment jsdom
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { KedgeContext } from "../src/context";
import { ELEMENT, TILE } from "../src/names";
import { register } from "../src/register";
import { connection, packageOf, repository, stalled, stated } from "./objects";
import { api, failed, list, serve, stream, stubDialogs, until, type Answer, type Asked } from "./server";

type Element = HTMLElement & { kedgeContext?: KedgeContext };

beforeAll(() => {
  stubDialogs();
  register("version-1");
});
beforeEach(() => {
  document.body.replaceChildren();
});
afterEach(() => {
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

const CONTEXT: KedgeContext = { tenant: "one", token: "t1", subPath: "connections", theme: "dark", basePath: "/ui/providers/code" };

function mount(context: KedgeContext | null = CONTEXT, tag = ELEMENT): Element {
  const element = document.createElement(tag) as Element;
  document.body.append(element);
  if (context) element.kedgeContext = context;
  return element;
}

function shows(element: Element, words: string): Promise<unknown> {
  return until(() => element.textContent?.includes(words), `${words} in ${element.textContent ?? ""}`);
}

/** Answers lists with what is given for the workspace of the request, and subscriptions with a stream that is silent. */
function workspaces(of: Readonly<Record<string, Answer>>): Asked[] {
  return serve((asked) => {
    if (asked.headers.Accept === "text/event-stream") return stream().response;
    return of[asked.url.split("/").at(-1) ?? ""]?.(asked) ?? new Response("", { status: 404 });
  });
}

const holding = (name: string): Answer => () => api({ Connections: list([connection(name)]), Repositories: list([]) });

describe("registration", () => {
  test("happens once however often the script runs, with one stylesheet", () => {
    register("version-1");
    register("version-1");
    expect(customElements.get(ELEMENT)).toBeDefined();
    expect(customElements.get(TILE)).toBeDefined();
    expect(document.querySelectorAll("style#kedge-provider-code-css")).toHaveLength(1);
  });
});

describe("the element", () => {
  test("is in light DOM, and shows nothing until it has a context", async () => {
    workspaces({ one: holding("acme") });
    const element = mount(null);
    expect(element.shadowRoot).toBeNull();
    expect(element.childElementCount).toBe(0);
    element.kedgeContext = CONTEXT;
    await shows(element, "acme");
  });

  test("takes a context that was set before it was in the page", async () => {
    workspaces({ one: holding("acme") });
    const element = document.createElement(ELEMENT) as Element;
    element.kedgeContext = CONTEXT;
    document.body.append(element);
    await shows(element, "acme");
    expect(element.kedgeContext).toBe(CONTEXT);
  });

  test("goes on over a new theme, token and sub-path, and asks with the new token", async () => {
    const asked = workspaces({ one: holding("acme") });
    const element = mount();
    await shows(element, "acme");
    const before = element.querySelector(".pc");
    element.kedgeContext = { ...CONTEXT, theme: "light", token: "t2" };
    await until(() => asked.find(({ headers }) => headers.Authorization === "Bearer t2"));
    expect(element.querySelector(".pc")).toBe(before);
    expect(before?.getAttribute("data-theme")).toBe("light");
    element.kedgeContext = { ...CONTEXT, token: "t2", subPath: "packages" };
    await until(() => element.querySelector("h1")?.textContent === "Packages");
  });

  test("of another workspace aborts what was asked of the one before, and never shows its answer", async () => {
    let answer: ((response: Response) => void) | undefined;
    const asked = workspaces({ one: () => new Promise((resolve) => (answer = resolve)), two: holding("of-two") });
    const element = mount();
    await until(() => answer);
    element.kedgeContext = { ...CONTEXT, tenant: "two" };
    expect(asked.filter(({ url }) => url.endsWith("/one")).every(({ signal }) => signal.aborted)).toBe(true);
    answer?.(api({ Connections: list([connection("of-one")]) }));
    await shows(element, "of-two");
    expect(element.textContent).not.toContain("of-one");
  });

  test("of another workspace aborts what a dialog has asked", async () => {
    const asked = workspaces({ one: holding("acme"), two: holding("of-two"), config: () => new Promise(() => undefined) });
    const element = mount();
    await shows(element, "acme");
    (await until(() => element.querySelector<HTMLButtonElement>(".pc-head .pc-button-main"))).click();
    const config = await until(() => asked.find(({ url }) => url.endsWith("/config")));
    element.kedgeContext = { ...CONTEXT, tenant: "two" };
    expect(config.signal.aborted).toBe(true);
    expect(element.querySelector("dialog")).toBeNull();
    await shows(element, "of-two");
  });

  test("of another workspace shows nothing of the one before while it loads", async () => {
    workspaces({ one: holding("of-one"), two: () => new Promise(() => undefined) });
    const element = mount();
    await shows(element, "of-one");
    element.kedgeContext = { ...CONTEXT, tenant: "two" };
    expect(element.textContent).not.toContain("of-one");
    await shows(element, "Loading");
  });

  test("that leaves the page asks nothing more, and comes back when it is put in again", async () => {
    const asked = workspaces({ one: holding("acme") });
    const element = mount();
    await shows(element, "acme");
    element.remove();
    expect(asked.every(({ signal }) => signal.aborted)).toBe(true);
    expect(element.childElementCount).toBe(0);
    document.body.append(element);
    await shows(element, "acme");
  });

  test("without a workspace says so, and asks nothing", async () => {
    const asked = workspaces({});
    await shows(mount({ ...CONTEXT, tenant: "" }), "No workspace is chosen");
    expect(asked).toEqual([]);
  });

  test("navigates by an event that bubbles, and its links are addresses of the hub", async () => {
    workspaces({ one: holding("acme") });
    const element = mount();
    await shows(element, "acme");
    const paths: unknown[] = [];
    document.body.addEventListener("kedge-navigate", (event) => paths.push((event as CustomEvent<unknown>).detail));
    const link = await until(() => element.querySelector<HTMLAnchorElement>("th a"));
    expect(link.getAttribute("href")).toBe("/ui/providers/code/connections/acme/overview");
    link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
    expect(paths).toEqual([{ path: "connections/acme/overview" }]);
    // The browser's own way to open it in another tab. It is not followed here, because nothing of jsdom can.
    element.addEventListener("click", (event) => event.preventDefault());
    link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey: true }));
    expect(paths).toHaveLength(1);
  });

  test("shows what tenants and hosts wrote as text, whatever it is", async () => {
    const markup = '<img src=x onerror="window.hacked=1">';
    workspaces({
      one: () => api({ Connections: list([connection("x", { ...stalled("CredentialRejected", markup), spec: { owner: markup } })]), Repositories: list([]) }),
    });
    const element = mount();
    await shows(element, markup);
    expect(element.querySelector("img")).toBeNull();
  });
});

describe("a page", () => {
  test("whose workspace has no schema yet says that it is being prepared, and shows what comes", async () => {
    let isServed = false;
    workspaces({ one: (asked) => (isServed ? (holding("acme")(asked) as Response) : new Response("404 page not found", { status: 404 })) });
    const element = mount();
    await shows(element, "This workspace is being prepared");
    expect(element.textContent).not.toContain("404");
    isServed = true;
    await shows(element, "acme");
  });

  test.each([
    [401, "Your session has ended"],
    [403, "You may not see this"],
    [502, "The server does not answer"],
  ])("that is answered with %i says so in plain words", async (status, words) => {
    workspaces({ one: () => new Response("", { status }) });
    await shows(mount(), words);
  });

  test("whose token has expired comes back with a new one", async () => {
    workspaces({ one: (asked) => (asked.headers.Authorization === "Bearer t2" ? (holding("acme")(asked) as Response) : new Response("Unauthorized", { status: 401 })) });
    const element = mount();
    await shows(element, "Your session has ended");
    element.kedgeContext = { ...CONTEXT, token: "t2" };
    await shows(element, "acme");
  });

  test("keeps what it shows while the server is away, and says that it may be old", async () => {
    let isAway = false;
    workspaces({ one: (asked) => (isAway ? new Response("", { status: 502 }) : (holding("acme")(asked) as Response)) });
    const element = mount();
    await shows(element, "acme");
    isAway = true;
    element.kedgeContext = { ...CONTEXT, token: "t2" };
    await shows(element, "What is shown may be old");
    expect(element.textContent).toContain("acme");
  });

  test("is loaded anew when a subscription tells of a change", async () => {
    const events = stream();
    let name = "before";
    const asked = serve((one) => (one.headers.Accept === "text/event-stream" ? events.response : api({ Connections: list([connection(name)]) })));
    const element = mount();
    await shows(element, "before");
    await until(() => asked.some(({ query }) => query.startsWith("subscription")));
    expect(asked.find(({ query }) => query.startsWith("subscription"))?.variables).toEqual({ version: "10" });
    name = "after";
    events.write('event: next\ndata: {"data":{}}\n\n');
    await shows(element, "after");
  });
});

describe("whose caller may see a part", () => {
  const forbidden = (resource: string) => failed(`${resource}.code.kedge.faros.sh is forbidden: User "x" cannot list resource "${resource}"`);

  test("a repository is shown, and its keys, collaborators and packages say whom to ask", async () => {
    workspaces({
      one: ({ query }) =>
        query.includes("query GetRepository") ? api({ Repository: repository("website") }) : query.includes("query GetConnection") ? forbidden("connections") : forbidden("others"),
    });
    const element = mount({ ...CONTEXT, subPath: "repositories/website/overview" });
    await shows(element, "git clone https://github.com/acme/website.git");
    expect(element.textContent?.match(/Your account has no permission to read this here/g)).toHaveLength(3);
    expect(element.textContent).not.toContain("does not exist");
  });

  test("repositories are listed without the connections", async () => {
    workspaces({ one: ({ query }) => (query.includes("ListRepositories") ? api({ Repositories: list([repository("website")]) }) : forbidden("connections")) });
    await shows(mount({ ...CONTEXT, subPath: "repositories" }), "website");
  });

  test("an empty workspace says that a repository needs a connection, and that none can be seen", async () => {
    workspaces({ one: ({ query }) => (query.includes("ListRepositories") ? api({ Repositories: list([]) }) : forbidden("connections")) });
    await shows(mount({ ...CONTEXT, subPath: "repositories" }), "your account may not see those of this workspace");
  });

  test("the tile tells of what may be seen", async () => {
    workspaces({ one: ({ query }) => (query.includes("ListConnections") ? api({ Connections: list([connection("acme")]) }) : forbidden("repositories")) });
    await shows(mount({ ...CONTEXT, subPath: undefined }, TILE), "1 connection, nothing needs action");
  });

  test("the tile says so where nothing may be seen", async () => {
    workspaces({ one: () => forbidden("anything") });
    await shows(mount({ ...CONTEXT, subPath: undefined }, TILE), "You may not see this");
  });
});

test("an edit offers its YAML, and says that no MCP tool makes it", async () => {
  workspaces({
    one: ({ query }) => (query.includes("query GetRepository") ? api({ Repository: repository("website") }) : api({ Connections: list([connection("acme")]), DeployKeys: list([]), Collaborators: list([]), Packages: list([]) })),
  });
  const element = mount({ ...CONTEXT, subPath: "repositories/website/overview" });
  const edit = await until(() => [...element.querySelectorAll("button")].find(({ textContent }) => textContent?.trim() === "Edit"));
  edit.click();
  const form = await until(() => element.querySelector("form"));
  expect(form.textContent).toContain("Copy as YAML");
  expect(form.textContent).not.toContain("Copy as MCP call");
  expect(form.textContent).toContain("No MCP tool changes an existing object");
});

test("the tile leads with what is broken", async () => {
  workspaces({
    one: ({ query }) =>
      query.includes("ListConnections")
        ? api({ Connections: list([connection("acme")]) })
        : api({ Repositories: list([repository("fine"), repository("taken", stalled("NameTaken"))]) }),
  });
  const tile = mount({ tenant: "one", token: "t1", theme: "dark", basePath: "/ui/providers/code" }, TILE);
  await shows(tile, "1 thing needs action");
  expect(tile.textContent).toContain("NameTaken");
  expect(tile.textContent).not.toContain("fine");
});

describe("a tile", () => {
  const TILED = { ...CONTEXT, subPath: undefined };

  test("of more repositories than it looks at says how many those are", async () => {
    const many = Array.from({ length: 100 }, (_, index) => repository(`r-${index}`));
    workspaces({
      one: ({ query }) => (query.includes("ListConnections") ? api({ Connections: list([connection("acme")]) }) : api({ Repositories: list(many, { continue: "more", remainingItemCount: 400 }) })),
    });
    await shows(mount(TILED, TILE), "the first 200 of 600 repositories and 1 connection, nothing needs action");
  });

  test("says that what it shows may be old", async () => {
    let isAway = false;
    workspaces({ one: (asked) => (isAway ? new Response("", { status: 502 }) : (holding("acme")(asked) as Response)) });
    const tile = mount(TILED, TILE);
    await shows(tile, "nothing needs action");
    isAway = true;
    tile.kedgeContext = { ...TILED, token: "t2" };
    await shows(tile, "What is shown may be old");
    expect(tile.textContent).toContain("nothing needs action");
  });

  test("without a workspace says so, and asks nothing", async () => {
    const asked = workspaces({});
    await shows(mount({ ...TILED, tenant: "" }, TILE), "No workspace is chosen");
    expect(asked).toEqual([]);
  });
});

describe("packages", () => {
  test("can be chosen by what is not among those read yet: all are read when somebody chooses", async () => {
    const read = Array.from({ length: 100 }, (_, index) => packageOf(`p-${index}`));
    let answer: ((response: Response) => void) | undefined;
    workspaces({
      one: ({ variables }) => (variables.continue ? new Promise((resolve) => (answer = resolve)) : api({ Packages: list(read, { continue: "more", remainingItemCount: 1 }) })),
    });
    const element = mount({ ...CONTEXT, subPath: "packages" });
    const byRepository = await until(() => element.querySelector("select"));
    byRepository.dispatchEvent(new Event("focus"));
    await until(() => answer);
    expect(element.textContent).toContain("Reading all packages");
    answer?.(api({ Packages: list([packageOf("of-zebra", { spec: { repositoryRef: "zebra" }, status: { packageName: "striped", type: "npm" } })]) }));
    await until(() => element.querySelector("option[value=zebra]") && element.querySelector("option[value=npm]"));
    expect(element.textContent).not.toContain("Reading all packages");
    byRepository.value = "zebra";
    byRepository.dispatchEvent(new Event("change", { bubbles: true }));
    await shows(element, "striped");
  });

  test("that are being read for a search are not said to be none", async () => {
    let isAsked = false;
    workspaces({
      one: ({ variables }) => {
        isAsked ||= Boolean(variables.continue);
        return variables.continue ? new Promise(() => undefined) : api({ Packages: list(Array.from({ length: 100 }, (_, index) => packageOf(`p-${index}`)), { continue: "more", remainingItemCount: 1 }) });
      },
    });
    const element = mount({ ...CONTEXT, subPath: "packages" });
    const search = await until(() => element.querySelector<HTMLInputElement>("input[type=search]"));
    search.value = "striped";
    search.dispatchEvent(new Event("input", { bubbles: true }));
    await until(() => isAsked);
    expect(element.textContent).toContain("Reading all packages");
    expect(element.textContent).not.toContain("No package matches");
  });
});

test("a connection of which not all repositories could be read does not say how many use it", async () => {
  workspaces({
    one: ({ query }) => {
      if (query.includes("GetConnection")) return api({ Connection: connection("acme") });
      return api({ Repositories: list(Array.from({ length: 100 }, (_, index) => repository(`r-${index}`, { spec: { connectionRef: "other" } })), { continue: "more", remainingItemCount: 5_000 }) });
    },
  });
  const element = mount({ ...CONTEXT, subPath: "connections/acme/overview" });
  await shows(element, "Not all repositories could be read");
  expect(element.textContent).not.toContain("No repository uses this connection");
});

describe("a page that is left for another workspace", () => {
  test("says nothing of a write that was aborted by it, and takes its messages with it", async () => {
    let writes = 0;
    workspaces({
      one: ({ query }) => {
        if (query.includes("UpdateConnection")) return (writes += 1) === 1 ? api({ updateConnection: {} }) : new Promise(() => undefined);
        return query.includes("GetConnection") ? api({ Connection: connection("acme") }) : api({ Repositories: list([]) });
      },
      two: holding("of-two"),
    });
    const element = mount({ ...CONTEXT, subPath: "connections/acme/overview" });
    const check = await until(() => [...element.querySelectorAll("button")].find(({ textContent }) => textContent?.includes("Check now")));
    check.click();
    await until(() => document.querySelector(".pc-toast"));
    check.click();
    await until(() => writes === 2);
    element.kedgeContext = { ...CONTEXT, tenant: "two" };
    await shows(element, "of-two");
    expect([...document.querySelectorAll(".pc-toast")].map(({ textContent }) => textContent)).toEqual([]);
  });

  test("shows nothing of another user of the same workspace", async () => {
    workspaces({ one: (asked) => (asked.headers.Authorization === "Bearer t2" ? new Promise<Response>(() => undefined) : (holding("acme")(asked) as Response)) });
    const element = mount({ ...CONTEXT, user: { userId: "rita" } });
    await shows(element, "acme");
    element.kedgeContext = { ...CONTEXT, user: { userId: "otto" }, token: "t2" };
    expect(element.textContent).not.toContain("acme");
  });
});

test("a repository that is being deleted offers no edit", async () => {
  workspaces({
    one: ({ query }) =>
      query.includes("query GetRepository")
        ? api({ Repository: repository("website", { metadata: { deletionTimestamp: "2026-11-30T00:00:00Z" } }) })
        : api({ Connections: list([connection("acme")]), DeployKeys: list([]), Collaborators: list([]), Packages: list([]) }),
  });
  const element = mount({ ...CONTEXT, subPath: "repositories/website/overview" });
  await shows(element, "Settings");
  expect([...element.querySelectorAll("button")].filter(({ textContent }) => textContent?.trim() === "Edit")).toEqual([]);
});

test("a repository's three addresses can be copied, and each condition that needs somebody says whom", async () => {
  workspaces({
    one: ({ query }) =>
      query.includes("query GetRepository")
        ? api({ Repository: repository("website", { status: { conditions: [stated("Ready", "True", "Reconciled"), stated("Stalled", "True", "CredentialUnavailable")] } }) })
        : api({ Connections: list([connection("acme")]), DeployKeys: list([]), Collaborators: list([]), Packages: list([]) }),
  });
  const element = mount({ ...CONTEXT, subPath: "repositories/website/overview" });
  for (const what of ["Web page", "HTTPS", "SSH"]) await until(() => element.querySelector(`[aria-label="Copy the address (${what})"]`), what);
  for (const url of ["https://github.com/acme/website", "https://github.com/acme/website.git", "git@github.com:acme/website.git"]) {
    expect([...element.querySelectorAll(".pc-line code")].map(({ textContent }) => textContent)).toContain(url);
  }
  const [ready, stalledNow] = [...element.querySelectorAll(".pc-conditions > li")].map(({ textContent }) => textContent);
  expect(stalledNow).toContain("To act: somebody who may change objects of this workspace");
  expect(ready).not.toContain("To act");
});

test("a tab that comes back asks which version is served, and takes a page in its place for none", async () => {
  let served = "<!doctype html>";
  const asked = workspaces({ one: holding("acme"), "version.txt": () => new Response(served) });
  const element = mount();
  await shows(element, "acme");
  for (const [version, note] of [["<!doctype html>", false], ["0123456789abcdef", true]] as const) {
    served = version;
    const before = asked.filter(({ url }) => url === "/ui/providers/code/version.txt").length;
    document.dispatchEvent(new Event("visibilitychange"));
    await until(() => asked.filter(({ url }) => url === "/ui/providers/code/version.txt").length > before);
    if (note) await shows(element, "Reload to update");
    else expect(element.textContent).not.toContain("Reload to update");
  }
  // Nobody knows the token of another workspace by that.
  expect(asked.filter(({ url }) => url.endsWith("version.txt")).every(({ headers }) => !headers.Authorization)).toBe(true);
});

// Last: a tab stays outdated.
test("a tab in which a newer script has run says that a reload updates it", async () => {
  workspaces({ one: holding("acme") });
  const element = mount();
  await shows(element, "acme");
  expect(element.textContent).not.toContain("Reload to update");
  register("version-2");
  await shows(element, "Reload to update");
  await shows(mount(), "Reload to update");
});
