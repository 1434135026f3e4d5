// @vitest-environment jsdom
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createApp, h, shallowReactive, shallowRef, type App, type Component } from "vue";
import { createClient } from "../src/api/client";
import { nameOf, type AnyObject } from "../src/api/objects";
import CollaboratorDialog from "../src/dialogs/CollaboratorDialog.vue";
import ConnectDialog from "../src/dialogs/ConnectDialog.vue";
import CreateRepositoryDialog from "../src/dialogs/CreateRepositoryDialog.vue";
import DeleteRepositoryDialog from "../src/dialogs/DeleteRepositoryDialog.vue";
import DeployKeyDialog from "../src/dialogs/DeployKeyDialog.vue";
import ReplaceTokenDialog from "../src/dialogs/ReplaceTokenDialog.vue";
import { SESSION } from "../src/session/session";
import { collaborator, connection, deployKey, repository } from "./objects";
import { annotationsOf, api, failed, json, lost, serve, stubDialogs, until, type Answer, type Asked } from "./server";

const START = "https://hub.example/services/providers/code/oauth/github/start";
let app: App | undefined;
let root: HTMLElement;
let popup: { closed: boolean };
let opened: URL[];

beforeAll(stubDialogs);
beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
  popup = { closed: false };
  opened = [];
  vi.stubGlobal("open", (url: URL) => {
    opened.push(url);
    return popup;
  });
});
afterEach(() => {
  app?.unmount();
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

const secrets = (fields: object) => json({ data: { v1: fields } });
const secretFailed = (message: string) => json({ data: { v1: null }, errors: [{ message }] });
const noSecret = () => secretFailed('secrets "acme-token" not found');

/** The Secret as it is stored after the first create of one. */
const stored = (asked: readonly Asked[]) => ({
  metadata: { name: "acme-token", resourceVersion: "9", annotations: annotationsOf(asked.find(({ query }) => query.includes("createSecret"))!), ownerReferences: [{ uid: "u1" }] },
});
/** The write that gives it the token, and writes no other Secret. */
const storing = { name: "acme-token", namespace: "default", object: { metadata: { resourceVersion: "9" }, stringData: { token: "ghp_x" } } };

/** Shows the dialog. `config`: of Connect with GitHub. */
function show(dialog: Component, props: object, answer: Answer, config: object = { enabled: false }): Asked[] {
  const asked = serve((one) => (one.url.endsWith("/config") ? json(config) : answer(one)));
  app = createApp({ render: () => h(dialog, props) });
  const context = shallowRef({ tenant: "one", token: "t" });
  app.provide(SESSION, { context, client: createClient(() => context.value, new AbortController().signal), navigate: () => undefined, href: () => "", notify: () => undefined });
  app.mount(root);
  return asked;
}

function field(label: string): Promise<HTMLInputElement> {
  return until(() => {
    const found = [...root.querySelectorAll("label")].find(({ textContent }) => textContent?.trim().startsWith(label));
    return found?.control as HTMLInputElement | null | undefined;
  }, label);
}

async function enter(label: string, value: string): Promise<void> {
  const input = await field(label);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

function button(words: string): HTMLButtonElement | undefined {
  return [...root.querySelectorAll("button")].find(({ textContent }) => textContent?.trim() === words);
}

function submit(): void {
  root.querySelector("form")?.dispatchEvent(new SubmitEvent("submit", { bubbles: true, cancelable: true }));
}

async function fill(): Promise<void> {
  await enter("Account", "acme");
  await enter("Name of the connection", "acme");
  await enter("Token", "ghp_x");
}

function grant(): void {
  const data = { type: "kedge-github-oauth", state: opened[0]?.searchParams.get("state"), token: "gho_x", login: "rita", error: "" };
  const event = new MessageEvent("message", { data, origin: "https://hub.example" });
  Object.defineProperty(event, "source", { value: popup });
  window.dispatchEvent(event);
}

describe("connecting", () => {
  test("that is closed while it runs goes on with the token that was entered", async () => {
    let answer: ((response: Response) => void) | undefined;
    const closed = vi.fn();
    const done = vi.fn();
    const asked = show(ConnectDialog, { onClose: closed, onDone: done }, ({ query }) => {
      if (query.includes("createConnection")) return new Promise((resolve) => (answer = resolve));
      return query.includes("createSecret") ? secrets({ createSecret: {} }) : noSecret();
    });
    await fill();
    submit();
    await until(() => answer);
    button("Cancel")?.click();
    root.querySelector("dialog")?.dispatchEvent(new Event("cancel", { cancelable: true }));
    expect([closed.mock.calls, done.mock.calls]).toEqual([[], []]);
    answer?.(api({ createConnection: { metadata: { name: "acme", uid: "u1" } } }));
    await until(() => done.mock.calls.length);
    expect(asked.find(({ query }) => query.includes("createSecret"))?.variables.object).toMatchObject({ stringData: { token: "ghp_x" } });
  });

  test("by a pasted token keeps that token when GitHub grants one late", async () => {
    show(ConnectDialog, {}, noSecret, { enabled: true, startURL: START, scopes: "repo" });
    (await field("Connect with GitHub")).click();
    (await until(() => button("Sign in to GitHub"))).click();
    (await field("Paste a token")).click();
    await enter("Token", "ghp_x");
    grant();
    expect((await field("Token")).value).toBe("ghp_x");
    // And who changes their mind again is asked to sign in again.
    (await field("Connect with GitHub")).click();
    expect((await until(() => button("Sign in to GitHub"))).disabled).toBe(false);
  });

  test.each([
    ["its own", true],
    ["another's, which names the same owner", false],
  ])("whose Secret is there when it is tried again, and is %s", async (_, isOwn) => {
    // What is asked after the first answer is lost, too.
    let tries = 0;
    const done = vi.fn();
    const asked = show(ConnectDialog, { onDone: done }, ({ query }) => {
      if (query.includes("createConnection")) return api({ createConnection: { metadata: { name: "acme", uid: "u1" } } });
      if (query.includes("createSecret")) return (tries += 1) === 1 ? lost() : secretFailed('secrets "acme-token" already exists');
      if (query.includes("updateSecret")) return secrets({ updateSecret: {} });
      if (tries === 1) return lost();
      return tries ? secrets({ Secret: isOwn ? stored(asked) : { metadata: { ...stored(asked).metadata, annotations: null } } }) : noSecret();
    });
    await fill();
    submit();
    await until(() => root.textContent?.includes("could not be stored"));
    submit();
    if (isOwn) {
      await until(() => done.mock.calls.length);
      expect(asked.at(-1)?.variables).toEqual(storing);
    } else {
      await until(() => root.textContent?.includes("Secret acme-token is in the way"));
      expect(root.textContent).not.toContain("Choose another name");
      expect(asked.some(({ query }) => query.includes("updateSecret"))).toBe(false);
    }
  });
});

test("a token whose storing is not answered is stored by the same try, if the Secret is there and its own", async () => {
  const done = vi.fn();
  let isThere = false;
  const asked = show(ConnectDialog, { onDone: done }, ({ query }) => {
    if (query.includes("createConnection")) return api({ createConnection: { metadata: { name: "acme", uid: "u1" } } });
    if (query.includes("updateSecret")) return secrets({ updateSecret: {} });
    if (!query.includes("createSecret")) return isThere ? secrets({ Secret: stored(asked) }) : noSecret();
    isThere = true;
    return lost();
  });
  await fill();
  submit();
  await until(() => done.mock.calls.length);
  expect(asked.at(-1)?.variables).toEqual(storing);
});

describe("a form that is sent again because its answer was lost", () => {
  /** A server that has made `object` of the first create, and whose answers are lost until it is asked the second time. */
  function losing(kind: string, object: AnyObject) {
    let tries = 0;
    let annotations: object;
    return (one: Asked): Response => {
      if (one.query.includes(`create${kind}(`)) {
        if ((tries += 1) > 1) return failed(`"${nameOf(object)}" already exists`);
        annotations = annotationsOf(one);
        return lost();
      }
      if (one.query.includes(` ${kind}(`)) return tries > 1 ? api({ [kind]: { ...object, metadata: { ...object.metadata, annotations } } }) : lost();
      if (one.query.includes("createSecret")) return secrets({ createSecret: {} });
      return noSecret();
    };
  }
  const child = { repository: "website", label: "website", reload: () => Promise.resolve() };

  test.each(["yes", "no"])("goes on with the connection that it has made: it has stored no token yet (may it see Secrets: %s)", async (may) => {
    const done = vi.fn();
    const asked: Asked[] = [];
    const answer = losing("Connection", connection("acme", { spec: { secretRef: { name: "of-the-first-try" } } }));
    show(ConnectDialog, { onDone: done }, (one) => {
      asked.push(one);
      if (one.query.includes("FindSecret") && may === "no") return secretFailed('secrets "acme-token" is forbidden');
      return answer(one);
    });
    await fill();
    submit();
    await until(() => root.textContent?.includes("not known whether this was done"));
    submit();
    await until(() => done.mock.calls.length);
    expect(done).toHaveBeenCalledWith("acme");
    const secret = asked.find(({ query }) => query.includes("createSecret"))?.variables.object;
    expect(secret).toMatchObject({ metadata: { name: "of-the-first-try", ownerReferences: [{ name: "acme", uid: "uid-acme" }] }, stringData: { token: "ghp_x" } });
  });

  test.each([
    ["refused", () => failed('connections "acme" is invalid: spec.owner')],
    ["lost, and not done", lost],
  ])("names no Secret that somebody made since the first create, which was %s", async (_, first) => {
    const done = vi.fn();
    let tries = 0;
    const asked = show(ConnectDialog, { onDone: done }, ({ query }) => {
      if (query.includes("createConnection")) return (tries += 1) === 1 ? first() : api({ createConnection: { metadata: { name: "acme", uid: "u1" } } });
      if (query.includes("createSecret")) return secrets({ createSecret: {} });
      if (query.includes("FindSecret")) return tries ? secrets({ Secret: { metadata: { name: "acme-token" } } }) : noSecret();
      return failed('connections "acme" not found');
    });
    await fill();
    submit();
    await until(() => root.querySelector("[role=alert]")?.textContent);
    submit();
    await until(() => done.mock.calls.length);
    const names = asked.filter(({ query }) => query.includes("createConnection")).map(({ variables }) => (variables.object as { spec: { secretRef: { name: string } } }).spec.secretRef.name);
    expect(names).toEqual(["acme-token", expect.stringMatching(/^acme-token-[0-9a-f]{8}$/)]);
    expect(asked.at(-1)?.variables.object).toMatchObject({ metadata: { name: names[1] } });
  });

  test("copies what was entered, without the id by which it knows its object", async () => {
    const writeText = vi.fn(() => Promise.resolve());
    vi.stubGlobal("navigator", { clipboard: { writeText } });
    const asked = show(ConnectDialog, {}, ({ query }) => (query.includes("FindSecret") ? noSecret() : lost()));
    await fill();
    submit();
    await until(() => root.textContent?.includes("not known whether this was done"));
    for (const words of ["Copy as YAML", "Copy as MCP call"]) button(words)?.click();
    const copied = writeText.mock.calls.join();
    expect(writeText).toHaveBeenCalledTimes(2);
    expect(copied).not.toContain("portal-request");
    const id = annotationsOf(asked.find(({ query }) => query.includes("createConnection"))!)["code.kedge.faros.sh/portal-request"];
    expect(copied).not.toContain(id);
  });

  test("adds the deploy key once", async () => {
    const done = vi.fn();
    const object = deployKey("website-ci");
    show(DeployKeyDialog, { ...child, onDone: done }, losing("DeployKey", object));
    await enter("Title", "ci");
    submit();
    await until(() => root.textContent?.includes("not known whether this was done. Try again in this form: what was done already is not done twice."));
    submit();
    await until(() => done.mock.calls.length);
  });

  test("adds the collaborator once", async () => {
    const done = vi.fn();
    const object = collaborator("website-rita", { spec: { permission: "push" } });
    show(CollaboratorDialog, { ...child, onDone: done }, losing("Collaborator", object));
    await enter("Login on the host", "rita");
    submit();
    await until(() => root.textContent?.includes("not known whether this was done"));
    submit();
    await until(() => done.mock.calls.length);
  });

  test("creates the repository once, and what goes with it", async () => {
    const done = vi.fn();
    const answer = losing("Repository", repository("website"));
    const asked = show(CreateRepositoryDialog, { connections: [connection()], onDone: done }, (one) =>
      one.query.includes("createDeployKey") ? api({ createDeployKey: {} }) : answer(one),
    );
    await enter("Name on the host", "website");
    (await field("Generate a deploy key, too")).click();
    submit();
    await until(() => root.textContent?.includes("not known whether this was done"));
    expect(asked.some(({ query }) => query.includes("createDeployKey"))).toBe(false);
    submit();
    await until(() => done.mock.calls.length);
    expect(asked.filter(({ query }) => query.includes("createDeployKey"))).toHaveLength(1);
  });

  test("has nothing more to save where its change is there", async () => {
    const done = vi.fn();
    const props = shallowReactive({ ...child, existing: collaborator(), onDone: done, reload: () => Promise.resolve() });
    props.reload = () => {
      props.existing = collaborator("website-rita", { metadata: { generation: 2 }, spec: { permission: "admin" } });
      return Promise.resolve();
    };
    let tries = 0;
    show(CollaboratorDialog, props, () => ((tries += 1) === 1 ? lost() : failed("the object has been modified")));
    const role = (await field("Role")) as unknown as HTMLSelectElement;
    role.value = "admin";
    role.dispatchEvent(new Event("change", { bubbles: true }));
    submit();
    await until(() => root.textContent?.includes("not known whether this was done"));
    submit();
    await until(() => done.mock.calls.length);
  });
});

describe("replacing a token", () => {
  test.each([
    [undefined, null, true],
    ["https://ghe.example", "https://ghe.example", true],
    [undefined, "https://ghe.example", false],
    ["https://ghe.example", null, false],
  ])("with sign-in at %s, of a connection to %s", async (there, here, isOffered) => {
    const asked = show(ReplaceTokenDialog, { connection: connection("acme", { spec: { type: "oauth", baseURL: here } }) }, noSecret, { enabled: true, startURL: START, baseURL: there });
    await until(() => asked.length);
    if (isOffered) await until(() => button("Sign in to GitHub"));
    else {
      await new Promise((resolve) => setTimeout(resolve));
      expect([await field("Token"), button("Sign in to GitHub")]).toEqual([expect.anything(), undefined]);
    }
  });
});

test("deleting a repository with its children says what the host loses with each", () => {
  const props = { repository: repository(), connection: connection(), deployKeys: [deployKey("mine"), deployKey("kept", { spec: { deletionPolicy: "Orphan" } })], collaborators: [collaborator()] };
  show(DeleteRepositoryDialog, props, noSecret);
  const told = [...root.querySelectorAll("li")].map(({ textContent }) => textContent);
  expect(told[0]).toContain("The deploy key is removed from acme/website. Whoever uses it loses access.");
  expect(told[1]).toContain("The deploy key stays on the host (acme/website)");
  expect(told[2]).toContain("The access of user rita to acme/website is withdrawn.");
});
