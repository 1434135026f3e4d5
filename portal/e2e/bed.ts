import { readFileSync } from "node:fs";
import AxeBuilder from "@axe-core/playwright";
import { expect, test as base, type Page } from "@playwright/test";

export interface Workspace {
  /** As the hub's page lists it. */
  readonly label: string;
  readonly cluster: string;
}

/** What the stack is, as tests/e2e/test_portal.py writes it. */
export interface Bed {
  readonly hub: string;
  readonly simulator: string;
  /** The hub's static token of a user who is in all workspaces. */
  readonly token: string;
  readonly workspaces: readonly [Workspace, Workspace];
  /** An account on the simulated host, and a token of it that may do everything. */
  readonly account: { readonly login: string; readonly token: string };
  readonly guests: readonly [string, string];
  /** Client id of the simulated host's OAuth app. */
  readonly oauthApp: string;
}

export const bed = JSON.parse(readFileSync(process.env.CODE_PORTAL_BED ?? "", "utf8")) as Bed;

/** A page of the hub whose violations of the content security policy, errors and uncaught exceptions fail the test. */
export const test = base.extend<{ hub: Page }>({
  hub: async ({ page }, use) => {
    const problems: string[] = [];
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
    await logIn(page);
    await use(page);
    expect(problems).toEqual([]);
  },
});

export { expect };

async function logIn(page: Page): Promise<void> {
  await page.goto(`${bed.hub}/ui/`);
  await page.evaluate(() => localStorage.setItem("kedge-theme", "dark"));
  await page.reload();
  await page.getByLabel("Static token").fill(bed.token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("link", { name: "Dashboard" }).waitFor();
}

/** Goes to a sub-path of the portal by its address, as a reload does. */
export async function open(page: Page, subPath: string, workspace: Workspace = bed.workspaces[0]): Promise<void> {
  await page.goto(`${bed.hub}/ui/providers/code/${subPath}`);
  await chooseWorkspace(page, workspace);
}

export async function chooseWorkspace(page: Page, { label }: Workspace): Promise<void> {
  const select = page.locator("#workspace");
  await expect(select.locator("option", { hasText: label })).toHaveCount(1);
  if ((await select.locator("option:checked").textContent()) !== label) await select.selectOption({ label });
}

/** No violation of WCAG A and AA in what the portal draws. */
export async function expectAccessible(page: Page): Promise<void> {
  const dialog = await page.locator("dialog.pc-dialog[open]").count();
  const found = await new AxeBuilder({ page })
    .include(dialog ? "dialog.pc-dialog" : ".pc")
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    // Landmarks are the page's, which is the hub's.
    .disableRules(["region"])
    .analyze();
  const told = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary ?? ""}`).join(" | ")}`);
  expect(told).toEqual([]);
}

/** Asks the GraphQL gateway, as another user of the workspace would. */
export async function graphql(query: string, variables: object, workspace: Workspace = bed.workspaces[0]): Promise<Record<string, unknown>> {
  const answer = await request("POST", `${bed.hub}/graphql/${workspace.cluster}`, { query, variables }, { Authorization: `Bearer ${bed.token}` });
  const { data, errors } = answer as { data: Record<string, unknown>; errors?: readonly { message: string }[] };
  if (errors) throw new Error(errors.map(({ message }) => message).join("; "));
  return data;
}

/** What a person does on the simulated host. */
export function onHost(method: string, path: string, body?: object): Promise<unknown> {
  return request(method, `${bed.simulator}/_sim${path}`, body);
}

async function request(method: string, url: string, body?: object, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(url, { method, headers: { "Content-Type": "application/json", ...headers }, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  const text = await response.text();
  return text ? (JSON.parse(text) as unknown) : undefined;
}

const API = "code_kedge_faros_sh { v1alpha1 {";

export function createObject(kind: string, name: string, spec: object, workspace?: Workspace): Promise<unknown> {
  const query = `mutation($o: CodeKedgeFarosShV1alpha1${kind}_Input!) { ${API} create${kind}(object: $o) { metadata { name } } } } }`;
  return graphql(query, { o: { metadata: { name }, spec } }, workspace);
}

/** Many at once: a mutation may hold 50 of them. */
export async function createRepositories(names: readonly string[], connectionRef: string, workspace: Workspace): Promise<void> {
  for (let start = 0; start < names.length; start += 50) {
    const some = names.slice(start, start + 50);
    const variables = Object.fromEntries(some.map((name, index) => [`o${index}`, { metadata: { name }, spec: { connectionRef, name } }]));
    const declared = some.map((_, index) => `$o${index}: CodeKedgeFarosShV1alpha1Repository_Input!`).join(" ");
    const fields = some.map((_, index) => `a${index}: createRepository(object: $o${index}) { metadata { name } }`).join(" ");
    await graphql(`mutation(${declared}) { ${API} ${fields} } } }`, variables, workspace);
  }
}

/** Connects the account by hand, so that a test can begin with repositories. */
export async function connect(name: string, workspace: Workspace = bed.workspaces[0]): Promise<void> {
  const secret = "mutation($o: V1Secret_Input!) { v1 { createSecret(namespace: \"default\", object: $o) { metadata { name } } } }";
  await graphql(secret, { o: { metadata: { name: `${name}-token` }, stringData: { token: bed.account.token } } }, workspace);
  const spec = { provider: "github", type: "pat", owner: bed.account.login, baseURL: bed.simulator, secretRef: { name: `${name}-token` } };
  await createObject("Connection", name, spec, workspace);
}

export async function clipboard(page: Page): Promise<string> {
  return page.evaluate(() => navigator.clipboard.readText());
}

export function badge(page: Page, words: string) {
  return page.locator(".pc-head .pc-badge", { hasText: words });
}
