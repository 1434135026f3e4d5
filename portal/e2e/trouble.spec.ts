import { badge, bed, chooseWorkspace, createObject, createRepositories, expect, expectAccessible, open, test } from "./bed";

const [one, two] = bed.workspaces;

test("a workspace switch in flight shows nothing of the workspace before", async ({ hub }) => {
  await createObject("Connection", "of-one", { provider: "github", type: "pat", owner: "one", secretRef: { name: "none" } }, one);
  await createObject("Connection", "of-two", { provider: "github", type: "pat", owner: "two", secretRef: { name: "none" } }, two);
  await open(hub, "connections", one);
  await expect(hub.getByRole("link", { name: "of-one" })).toBeVisible();
  // Answers of the first workspace come late from now on.
  await hub.route(`**/graphql/${one.cluster}`, async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await route.continue().catch(() => undefined);
  });
  await open(hub, "connections", one);
  await chooseWorkspace(hub, two);
  await expect(hub.getByRole("link", { name: "of-two" })).toBeVisible();
  await hub.waitForTimeout(2_000);
  await expect(hub.getByText("of-one")).toHaveCount(0);
});

test("an expired token is told, and a renewed one brings the page back", async ({ hub }) => {
  await hub.route("**/graphql/**", (route) => route.fulfill({ status: 401, body: "Unauthorized" }));
  await open(hub, "connections", one);
  await expect(hub.getByText("Your session has ended")).toBeVisible();
  await expectAccessible(hub);
  await hub.unroute("**/graphql/**");
  await hub.getByRole("button", { name: "Try again" }).click();
  await expect(hub.getByRole("heading", { name: "Connections" })).toBeVisible();
  await expect(hub.getByText("Your session has ended")).toHaveCount(0);
});

test("while the gateway is down the page says so, and comes back by itself", async ({ hub }) => {
  await hub.route("**/graphql/**", (route) => route.abort());
  await open(hub, "repositories", one);
  await expect(hub.getByText("The server does not answer")).toBeVisible();
  await expectAccessible(hub);
  await hub.unroute("**/graphql/**");
  await expect(hub.getByText("The server does not answer")).toHaveCount(0);
  await expect(hub.getByRole("heading", { name: "Repositories", exact: true })).toBeVisible();
});

test("without permission the page says whom to ask", async ({ hub }) => {
  const errors = [{ message: 'connections.code.kedge.faros.sh is forbidden: User "x" cannot list resource "connections"' }];
  await hub.route("**/graphql/**", (route) => route.fulfill({ json: { data: { code_kedge_faros_sh: null }, errors } }));
  await open(hub, "connections", one);
  await expect(hub.getByText("You may not see this")).toBeVisible();
  await expectAccessible(hub);
});

test("a workspace whose schema is not there yet is waited for", async ({ hub }) => {
  await hub.route("**/graphql/**", (route) => route.fulfill({ status: 404, body: "404 page not found" }));
  await open(hub, "connections", one);
  await expect(hub.getByText("This workspace is being prepared")).toBeVisible();
  await expectAccessible(hub);
  await hub.unroute("**/graphql/**");
  await expect(hub.getByText("This workspace is being prepared")).toHaveCount(0);
});

test("objects that hold markup are shown as text", async ({ hub }) => {
  const markup = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"';--`;
  await createObject("Repository", "hostile", { connectionRef: "of-one", name: "hostile", description: markup }, one);
  await createObject("DeployKey", "hostile-key", { repositoryRef: "hostile", title: markup, publicKey: markup }, one);
  await createObject("Collaborator", "hostile-user", { repositoryRef: "hostile", username: markup, permission: markup }, one);
  await open(hub, "repositories/hostile/overview", one);
  await expect(hub.getByText(markup).first()).toBeVisible();
  await expect(hub.getByRole("region", { name: "Collaborators" })).toContainText(markup);
  expect(await hub.evaluate(() => (window as { hacked?: number }).hacked)).toBeUndefined();
  await expect(hub.locator(".pc img, .pc script")).toHaveCount(0);
  // Without a label, the children are found all the same.
  await expect(hub.getByRole("region", { name: "Deploy keys" })).toContainText("hostile-key");
  await expectAccessible(hub);
});

test("500 repositories are paged, searched and sorted", async ({ hub }) => {
  const names = Array.from({ length: 500 }, (_, index) => `many-${String(index).padStart(3, "0")}`);
  test.setTimeout(240_000);
  // Of a connection that does not exist, so that the host is left alone.
  await createRepositories(names, "nowhere", two);
  await open(hub, "repositories", two);
  await expect(hub.getByText("50 of 500")).toBeVisible();
  await expect(hub.locator("tbody tr")).toHaveCount(50);
  await hub.getByRole("button", { name: "Show more" }).click();
  await expect(hub.locator("tbody tr")).toHaveCount(100);
  await hub.getByLabel("Search").fill("many-499");
  await expect(hub.locator("tbody tr")).toHaveCount(1);
  await expect(hub.getByRole("link", { name: "many-499" })).toBeVisible();
  await hub.getByLabel("Search").fill("");
  await hub.getByLabel("Sort by").selectOption("newest");
  await expect(hub.getByText("of 500")).toBeVisible();
  await hub.getByRole("link", { name: /^many-4\d\d$/ }).first().click();
  await expect(badge(hub, "Needs action")).toBeVisible();
  await expect(hub.getByText(/Create the Connection nowhere/)).toBeVisible();
});

test("addresses with a dot in a name survive a reload, and the old form works when it is clicked", async ({ hub }) => {
  await createObject("Repository", "my.repo", { connectionRef: "of-one", name: "my.repo" }, one);
  await open(hub, "repositories/my.repo/overview", one);
  await expect(hub.getByRole("heading", { name: /my\.repo/ })).toBeVisible();
  await hub.evaluate(() => {
    document.querySelector("kedge-provider-code")?.dispatchEvent(new CustomEvent("kedge-navigate", { bubbles: true, detail: { path: "connections/of-one" } }));
  });
  await expect(hub.getByRole("heading", { name: /of-one/ })).toBeVisible();
});
