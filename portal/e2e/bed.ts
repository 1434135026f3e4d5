import { readFileSync } from "node:fs";
import AxeBuilder from "@axe-core/playwright";
import { expect, test as base, type Locator, type Page, type Request } from "@playwright/test";

export interface Workspace {
  /** As the hub's page lists it. */
  readonly label: string;
  readonly cluster: string;
  readonly organization: string;
  readonly uuid: string;
}

/** A user of the hub, with what the hub's page keeps of one who has logged in. */
export interface User {
  readonly token: string;
  readonly email: string;
  readonly userId: string;
}

/** An account on the simulated host, and a token of it that may do everything. */
export interface Account {
  readonly login: string;
  readonly token: string;
}

type Names = "journey" | "views" | "trouble" | "many";

/** What the stack is, as tests/e2e/test_portal.py writes it. */
export interface Bed {
  readonly hub: string;
  readonly simulator: string;
  /** May do everything in all workspaces. */
  readonly member: User;
  /** May look at the connections of the workspace `trouble`, and do nothing else. */
  readonly reader: User;
  /** They begin empty. Each file has its own, because files are run at the same time. */
  readonly workspaces: Readonly<Record<Names, Workspace>>;
  readonly accounts: Readonly<Record<Names, Account>>;
  readonly guests: readonly [string, string];
  /** Client id of the simulated host's OAuth app. */
  readonly oauthApp: string;
  /** POST to `/kill` and `/start`: the process that answers at `/graphql`. */
  readonly graphqlSwitch: string;
}

export const bed = JSON.parse(readFileSync(process.env.CODE_PORTAL_BED ?? "", "utf8")) as Bed;

interface Options {
  /** Who is logged in. */
  readonly user: User;
  /** Which workspace is chosen. */
  readonly workspace: Workspace;
}

/** A page of the hub whose violations of the content security policy, errors and uncaught exceptions fail the test. */
export const test = base.extend<Options & { hub: Page }>({
  user: [bed.member, { option: true }],
  workspace: [bed.workspaces.journey, { option: true }],
  // As the hub's page has left it: logging in each time would take a third of the time of all tests.
  storageState: async ({ user, workspace }, use) => {
    const { token, email, userId } = user;
    const kept = {
      "kedge-auth": JSON.stringify({ token, user: { email, userId } }),
      "kedge:portal:tenant": JSON.stringify({ orgUUID: workspace.organization, workspaceUUID: workspace.uuid }),
      "kedge-theme": "dark",
    };
    await use({ cookies: [], origins: [{ origin: bed.hub, localStorage: Object.entries(kept).map(([name, value]) => ({ name, value })) }] });
  },
  hub: async ({ page }, use, testInfo) => {
    const problems: string[] = [];
    const unanswered: string[] = [];
    page.on("requestfailed", (request) => unanswered.push(failureOf(request)));
    page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      // The browser logs each answer of 4xx and 5xx, which some tests provoke.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(`console: ${message.text()}`);
    });
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
    });
    // While working on the portal: the gateway reads its bundle once, at start.
    const bundle = process.env.CODE_PORTAL_BUNDLE;
    if (bundle) await page.route("**/ui/providers/code/main.js*", (route) => route.fulfill({ path: bundle, contentType: "text/javascript" }));
    await use(page);
    if (testInfo.status !== testInfo.expectedStatus) console.log(`no answer came to:\n${unanswered.join("\n")}`);
    expect(problems).toEqual([]);
  },
});

export { expect };

function failureOf(request: Request): string {
  return `${request.method()} ${request.url()}: ${request.failure()?.errorText ?? ""}`;
}

/** Goes to an address of the hub, as a reload does. Fails if the script of the hub's page does not run. */
export async function visit(page: Page, path: string): Promise<void> {
  const unanswered: string[] = [];
  const note = (request: Request) => void unanswered.push(failureOf(request));
  page.on("requestfailed", note);
  for (let tries = 0; tries < 3; tries += 1) {
    await page.goto(`${bed.hub}${path}`);
    // A busy machine has lost the script of the hub's page now and then, which the page cannot tell. A person would reload it.
    const runs = await page.locator("#theme").evaluate((select) => (select as HTMLSelectElement).value === localStorage.getItem("kedge-theme"));
    if (runs) return void page.off("requestfailed", note);
  }
  throw new Error(`the script of the hub's page at ${path} did not run in three loads: it has not chosen the theme. No answer came to:\n${unanswered.join("\n")}`);
}

/** Goes to a sub-path of the portal. */
export async function open(page: Page, subPath: string): Promise<void> {
  await visit(page, `/ui/providers/code/${subPath}`);
}

export async function chooseWorkspace(page: Page, { label }: Workspace): Promise<void> {
  await page.locator("#workspace").selectOption({ label });
}

export type Theme = "dark" | "light";

/** Chooses a theme in the hub's page, also behind a dialog. */
export async function chooseTheme(page: Page, theme: Theme): Promise<void> {
  await page.locator("#theme").evaluate((select, value) => {
    (select as HTMLSelectElement).value = value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }, theme);
}

/** Violations of WCAG A and AA in what the portal draws, in words. */
export async function violations(page: Page): Promise<string[]> {
  const dialog = await page.locator("dialog.pc-dialog[open]").count();
  const found = await new AxeBuilder({ page })
    // There are no frames to look into. Without this, axe opens a page for each of its results.
    .setLegacyMode()
    .options({ resultTypes: ["violations"] })
    .include(dialog ? "dialog.pc-dialog" : ".pc")
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    // Landmarks are the page's, which is the hub's.
    .disableRules(["region"])
    .analyze();
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary ?? ""}`).join(" | ")}`);
}

export async function expectAccessible(page: Page): Promise<void> {
  expect(await violations(page)).toEqual([]);
}

/** Asks the GraphQL gateway, as another user of the workspace would. Waits while it does not know the new workspace yet. */
export async function graphql(query: string, variables: object, workspace: Workspace): Promise<Record<string, unknown>> {
  for (const end = Date.now() + 60_000; ; ) {
    try {
      return await graphqlNow(query, variables, workspace);
    } catch (error) {
      if (Date.now() > end || !/: 404 |Cannot query field|Unknown type/.test(String(error))) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

async function graphqlNow(query: string, variables: object, workspace: Workspace): Promise<Record<string, unknown>> {
  const answer = await request("POST", `${bed.hub}/graphql/${workspace.cluster}`, { query, variables }, { Authorization: `Bearer ${bed.member.token}` });
  const { data, errors } = answer as { data: Record<string, unknown>; errors?: readonly { message: string }[] };
  if (errors) throw new Error(errors.map(({ message }) => message).join("; "));
  return data;
}

/** What a person does on the simulated host. */
export function onHost(method: string, path: string, body?: object): Promise<unknown> {
  return request(method, `${bed.simulator}/_sim${path}`, body);
}

interface Published {
  /** Of a container, the digest. */
  readonly name: string;
}

/** Publishes a version on the host, and the package if it is not there. */
export async function publish(owner: string, type: string, name: string, version: { version?: string; tags?: readonly string[] }, repository: string): Promise<string> {
  await onHost("POST", "/packages", { owner, package_type: type, name, repository }).catch((error: unknown) => {
    if (!/already|is taken|exists/.test(String(error))) throw error;
  });
  const { name: published } = (await onHost("POST", `/packages/${owner}/${type}/${encodeURIComponent(name)}/versions`, version)) as Published;
  return published;
}

/** Publishes an image, and cosign's signature after it, which is a version, too. Returns the digest. */
export async function publishImage(owner: string, name: string, tags: readonly string[], repository: string): Promise<string> {
  const digest = await publish(owner, "container", name, { tags }, repository);
  await publish(owner, "container", name, { tags: [`${digest.replace(":", "-")}.sig`] }, repository);
  return digest;
}

/** For what a test makes before it begins: one that failed is followed by another process, which finds it. */
export function made(work: Promise<unknown>): Promise<unknown> {
  return work.catch((error: unknown) => {
    if (!/already exists|is taken/.test(String(error))) throw error;
  });
}

/** Ends the GraphQL gateway's process, or starts it again. */
export async function switchGraphql(to: "kill" | "start"): Promise<void> {
  await request("POST", `${bed.graphqlSwitch}/${to}`);
}

async function request(method: string, url: string, body?: object, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(url, { method, headers: { "Content-Type": "application/json", ...headers }, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  const text = await response.text();
  return text ? (JSON.parse(text) as unknown) : undefined;
}

const API = "code_kedge_faros_sh { v1alpha1 {";

export function createObject(kind: string, name: string, spec: object, workspace: Workspace): Promise<unknown> {
  const query = `mutation($o: CodeKedgeFarosShV1alpha1${kind}_Input!) { ${API} create${kind}(object: $o) { metadata { name } } } } }`;
  return graphql(query, { o: { metadata: { name }, spec } }, workspace);
}

/** Connects the account by hand, so that a test can begin with repositories. */
export async function connect(name: string, { login, token }: Account, workspace: Workspace): Promise<void> {
  const secret = "mutation($o: V1Secret_Input!) { v1 { createSecret(namespace: \"default\", object: $o) { metadata { name } } } }";
  await graphql(secret, { o: { metadata: { name: `${name}-token` }, stringData: { token } } }, workspace);
  const spec = { provider: "github", type: "pat", owner: login, baseURL: bed.simulator, secretRef: { name: `${name}-token` } };
  await createObject("Connection", name, spec, workspace);
}

/** What the button puts on the clipboard, which it does after the click. */
export async function copied(page: Page, button: Locator): Promise<string> {
  await page.evaluate(() => navigator.clipboard.writeText(""));
  await button.click();
  const read = () => page.evaluate(() => navigator.clipboard.readText());
  await expect.poll(read).not.toBe("");
  return read();
}

export function badge(page: Page, words: string) {
  return page.locator(".pc-head .pc-badge", { hasText: words });
}
