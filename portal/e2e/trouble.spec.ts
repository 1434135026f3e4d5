import { bed, chooseWorkspace, createObject, expect, expectAccessible, graphql, made, open, test } from "./bed";
import type { Page, Request } from "@playwright/test";

const { trouble: one, many: two } = bed.workspaces;
test.use({ workspace: one });

test.beforeAll(async () => {
  await made(createObject("Connection", "of-one", { provider: "github", type: "pat", owner: "one", secretRef: { name: "none" } }, one));
  await made(createObject("Connection", "of-two", { provider: "github", type: "pat", owner: "two", secretRef: { name: "none" } }, two));
});

test("a workspace switch in flight shows nothing of the workspace before", async ({ hub }) => {
  await open(hub, "connections");
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  // Answers of the first workspace come after those of the second from now on.
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const held: Request[] = [];
  await hub.route(`**/graphql/${one.cluster}`, async (route) => {
    held.push(route.request());
    await released;
    await route.continue().catch(() => undefined);
  });
  const asked = hub.waitForRequest(`**/graphql/${one.cluster}`);
  await open(hub, "connections");
  await asked;
  await chooseWorkspace(hub, two);
  await expect(hub.getByRole("link", { name: "of-two" })).toBeVisible();
  release();
  // A request that the page has given up has no answer.
  await Promise.all(held.map(async (request) => (await request.response())?.finished()));
  await hub.evaluate(() => new Promise(requestAnimationFrame));
  await expect(hub.getByText("of-one")).toHaveCount(0);
});

test("an expired token is told, and a renewed one brings the page back", async ({ hub }) => {
  // The one that the page begins with has expired, and stays so.
  const expired = `Bearer ${bed.member.token}`;
  await hub.route("**/graphql/**", (route) => (route.request().headers().authorization === expired ? route.fulfill({ status: 401, body: "Unauthorized" }) : route.continue()));
  await open(hub, "connections");
  await expect(hub.getByText("Your session has ended")).toBeVisible();
  await expectAccessible(hub);
  // The hub keeps the renewed one and hands it on. It is one that the gateway takes, too.
  await hub.evaluate((token) => {
    const kept = JSON.parse(localStorage.getItem("kedge-auth") ?? "{}") as object;
    localStorage.setItem("kedge-auth", JSON.stringify({ ...kept, token }));
    const element = document.querySelector("kedge-provider-code") as (HTMLElement & { kedgeContext: object }) | null;
    if (element) element.kedgeContext = { ...element.kedgeContext, token };
  }, bed.reader.token);
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  await expect(hub.getByText("Your session has ended")).toHaveCount(0);
});

test("a workspace whose schema is not there yet is waited for", async ({ hub }) => {
  await hub.route("**/graphql/**", (route) => route.fulfill({ status: 404, body: "404 page not found" }));
  await open(hub, "connections");
  await expect(hub.getByText("This workspace is being prepared")).toBeVisible();
  await expectAccessible(hub);
  await hub.unroute("**/graphql/**");
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  await expect(hub.getByText("This workspace is being prepared")).toHaveCount(0);
});

test("answers to creates that are lost hinder nothing: the form knows its objects again", async ({ hub }) => {
  const lost: string[] = [];
  await hub.route("**/graphql/**", async (route) => {
    const operation = /mutation (Create\w+)/.exec(route.request().postData() ?? "")?.[1];
    if (!operation) return route.continue();
    await route.fetch();
    lost.push(operation);
    return route.fulfill({ status: 504, body: "" });
  });
  await open(hub, "connections");
  await hub.getByRole("button", { name: "Connect an account" }).click();
  await hub.getByLabel("Token", { exact: true }).fill("ghp_lost");
  await hub.getByLabel("Account", { exact: true }).fill("lost");
  await hub.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(hub.getByRole("heading", { name: "github-lost" })).toBeVisible();
  expect(lost).toEqual(["CreateConnection", "CreateSecret"]);
  const found = await graphql('{ v1 { Secret(name: "github-lost-token", namespace: "default") { data } } }', {}, one);
  expect(found).toEqual({ v1: { Secret: { data: { token: Buffer.from("ghp_lost").toString("base64") } } } });
});

test("objects that hold markup are shown as text", async ({ hub }) => {
  const markup = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"';--`;
  await made(createObject("Repository", "hostile", { connectionRef: "of-one", name: "hostile", description: markup }, one));
  await made(createObject("DeployKey", "hostile-key", { repositoryRef: "hostile", title: markup, publicKey: markup }, one));
  await made(createObject("Collaborator", "hostile-user", { repositoryRef: "hostile", username: markup, permission: markup }, one));
  await open(hub, "repositories/hostile/overview");
  await expect(hub.getByText(markup).first()).toBeVisible();
  await expect(hub.getByRole("region", { name: "Collaborators" })).toContainText(markup);
  expect(await hub.evaluate(() => (window as { hacked?: number }).hacked)).toBeUndefined();
  await expect(hub.locator(".pc img, .pc script")).toHaveCount(0);
  // Without a label, the children are found all the same.
  await expect(hub.getByRole("region", { name: "Deploy keys" })).toContainText("hostile-key");
  await expectAccessible(hub);
});

test("addresses with a dot in a name survive a reload, and the old form works when it is clicked", async ({ hub }) => {
  await made(createObject("Repository", "my.repo", { connectionRef: "of-one", name: "my.repo" }, one));
  await open(hub, "repositories/my.repo/overview");
  await expect(hub.getByRole("heading", { name: /my\.repo/ })).toBeVisible();
  await hub.evaluate(() => {
    document.querySelector("kedge-provider-code")?.dispatchEvent(new CustomEvent("kedge-navigate", { bubbles: true, detail: { path: "connections/of-one" } }));
  });
  await expect(hub.getByRole("heading", { name: /of-one/ })).toBeVisible();
});

/** The person comes back to the tab. The browser has no screen on which it was hidden. */
async function comeBack(page: Page): Promise<void> {
  const looked = page.waitForResponse("**/ui/providers/code/version.txt");
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await (await looked).finished();
}

test("a tab that was left open across an upgrade says so, one that was opened after it does not", async ({ context, hub }) => {
  await open(hub, "connections");
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  const version = await (await context.request.get(`${bed.hub}/ui/providers/code/version.txt`)).text();
  const upgraded = version.replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
  await context.route("**/ui/providers/code/version.txt", (route) => route.fulfill({ body: upgraded, contentType: "text/plain" }));
  await context.route("**/ui/providers/code/main.js*", async (route) => {
    const served = await route.fetch();
    await route.fulfill({ response: served, body: (await served.text()).replaceAll(version, upgraded) });
  });
  const other = await context.newPage();
  await open(other, "connections");
  await expect(other.getByRole("link", { name: "of-one" })).toBeVisible();

  await comeBack(hub);
  await expect(hub.getByText("A newer version of this page is installed.")).toBeVisible();
  await expectAccessible(hub);
  await expect(other.getByText("A newer version of this page is installed.")).toHaveCount(0);
  const reloaded = hub.waitForEvent("load");
  await hub.getByRole("button", { name: "Reload to update" }).click();
  await reloaded;
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  await comeBack(hub);
  await expect(hub.getByText("A newer version of this page is installed.")).toHaveCount(0);
  await other.close();
});

test("a tab in which the hub loads a newer script says so", async ({ hub }) => {
  await open(hub, "connections");
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  await hub.route("**/ui/providers/code/main.js*", async (route) => {
    const served = await route.fetch();
    const version = await (await hub.request.get(`${bed.hub}/ui/providers/code/version.txt`)).text();
    await route.fulfill({ response: served, body: (await served.text()).replaceAll(version, "0123456789abcdef") });
  });
  await hub.getByRole("link", { name: "Dashboard" }).click();
  await hub.getByRole("link", { name: "Connections", exact: true }).click();
  await expect(hub.getByRole("button", { name: "Reload to update" })).toBeVisible();
});
