import { badge, bed, connect, expect, expectAccessible, graphql, made, open, test, visit } from "./bed";

// A member who may look at connections and do nothing else. kcp's RBAC decides it.
const workspace = bed.workspaces.trouble;
test.use({ user: bed.reader, workspace });

const REFUSED = "Your account may not do this here. Ask somebody who administers the workspace.";

test.beforeAll(async () => {
  await made(connect("shared", bed.accounts.trouble, workspace));
});

async function names(): Promise<string[]> {
  const answer = await graphql("query { code_kedge_faros_sh { v1alpha1 { Connections { items { metadata { name } } } } } }", {}, workspace);
  const { v1alpha1 } = answer.code_kedge_faros_sh as { v1alpha1: { Connections: { items: { metadata: { name: string } }[] } } };
  return v1alpha1.Connections.items.map(({ metadata }) => metadata.name);
}

test("sees what may be seen, and is told of the rest whom to ask", async ({ hub }) => {
  await open(hub, "connections");
  await expect(hub.getByRole("link", { name: "shared" })).toBeVisible();
  await hub.getByRole("link", { name: "shared" }).click();
  await expect(badge(hub, "Connected")).toBeVisible();
  await expect(hub.getByText("Not all repositories could be read, so it is not known here which of them use it.").first()).toBeVisible();
  await expectAccessible(hub);
  for (const page of ["repositories", "packages", "repositories/any/overview"]) {
    await open(hub, page);
    await expect(hub.getByText("You may not see this")).toBeVisible();
    await expect(hub.getByText("Ask somebody who administers the workspace.")).toBeVisible();
    await expectAccessible(hub);
  }
  // The tile tells of the connections.
  await visit(hub, "/ui/");
  await expect(hub.locator(".pc-tile")).toContainText(/connection|needs? action/);
});

test("is refused each write in plain words, and nothing is changed", async ({ hub }) => {
  await open(hub, "connections");
  await hub.getByRole("button", { name: "Connect an account" }).click();
  await hub.getByLabel("Token", { exact: true }).fill("ghp_mine");
  await hub.getByLabel("Account", { exact: true }).fill("mine");
  await hub.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(hub.getByRole("alert")).toHaveText(REFUSED);
  await expectAccessible(hub);
  expect(await names()).not.toContain("github-mine");

  await open(hub, "connections/shared/overview");
  await hub.getByRole("button", { name: "Check now" }).click();
  await expect(hub.getByRole("alert")).toHaveText(REFUSED);
  await hub.getByRole("button", { name: "Replace the token" }).click();
  await hub.getByLabel("Token", { exact: true }).fill("ghp_mine");
  await hub.getByRole("button", { name: "Replace", exact: true }).click();
  await expect(hub.getByRole("dialog").getByRole("alert")).toHaveText(REFUSED);
  await hub.keyboard.press("Escape");
  await hub.getByRole("button", { name: "Delete", exact: true }).click();
  await hub.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await expect(hub.getByRole("dialog").getByRole("alert")).toHaveText(REFUSED);
  expect(await names()).toContain("shared");
});
