import { parse } from "yaml";
import { badge, bed, copied, expect, expectAccessible, graphql, onHost, open, publish, publishImage, test } from "./bed";

// A person's way through all views and writes. Each test goes on where the one before it has stopped.
test.describe.configure({ mode: "serial" });

const { login, token } = bed.accounts.journey;
const workspace = bed.workspaces.journey;
const [rita, ben] = bed.guests;
const connection = `github-${login}`;

test("connects an account, and sees what the credential can do", async ({ hub }) => {
  await open(hub, "connections");
  await hub.getByText("Connect your first account").waitFor();
  await hub.getByRole("button", { name: "Connect an account" }).click();
  await hub.getByLabel("Token", { exact: true }).fill(token);
  await hub.getByLabel("Account", { exact: true }).fill(login);
  await hub.getByLabel("Address of the host").fill(bed.simulator);
  await expect(hub.getByLabel("Name of the connection")).toHaveValue(connection);
  await expectAccessible(hub);
  const yaml = await copied(hub, hub.getByRole("button", { name: "Copy as YAML" }));
  const [declared, secret] = yaml.split("---\n").map((text) => parse(text) as { kind: string; stringData?: object });
  expect([declared?.kind, secret?.kind, secret?.stringData]).toEqual(["Connection", "Secret", { token: "…" }]);
  await hub.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(badge(hub, "Connected")).toBeVisible();
  await expect(hub.getByText("Create repositories: Yes")).toBeVisible();
  expect(await hub.locator("html").innerHTML()).not.toContain(token);
});

test("is refused an existing name, and nothing is overwritten", async ({ hub }) => {
  await open(hub, "connections");
  await hub.getByRole("button", { name: "Connect an account" }).click();
  await hub.getByLabel("Token", { exact: true }).fill("ghp_other");
  await hub.getByLabel("Account", { exact: true }).fill(login);
  await hub.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(hub.getByRole("alert")).toContainText(`There is a Connection named ${connection} already`);
  await hub.keyboard.press("Escape");
  await expect(hub.getByRole("dialog")).toHaveCount(0);
  // The focus is back where the dialog was opened.
  await expect(hub.getByRole("button", { name: "Connect an account" })).toBeFocused();
});

test("creates a repository with a key and a collaborator, and watches them become ready", async ({ hub }) => {
  await open(hub, "repositories");
  await hub.getByRole("button", { name: "Create a repository" }).click();
  await hub.getByLabel("Name on the host").fill("My.Website");
  await hub.getByLabel("Description").fill("The public website");
  await hub.getByLabel("Generate a deploy key, too").check();
  await hub.getByRole("button", { name: "Add a collaborator" }).click();
  await hub.getByLabel("Login on the host").fill(rita);
  await expectAccessible(hub);
  const subscription = hub.waitForResponse((response) => response.request().headers().accept === "text/event-stream");
  await hub.getByRole("button", { name: "Create", exact: true }).click();
  expect((await subscription).status()).toBe(200);
  await expect(hub).toHaveURL(/\/repositories\/my-website\/overview$/);
  await expect(badge(hub, "Ready")).toBeVisible();
  const keys = hub.getByRole("region", { name: "Deploy keys" });
  await expect(keys.locator(".pc-badge")).toHaveText("Ready");
  await expect(keys).toContainText("In Secret default/deploykey-my-website-key");
  const people = hub.getByRole("region", { name: "Collaborators" });
  await expect(people.locator(".pc-badge")).toHaveText("Invited");
  await expect(people).toContainText("The invited user has to act on the git host.");
  await onHost("POST", `/repos/${login}/My.Website/invitations/${rita}/accept`);
  // The page follows by itself.
  await expect(people.locator(".pc-badge")).toHaveText("Ready");
  await expect(hub.getByText(`git clone ${bed.simulator}/${login}/My.Website.git`)).toBeVisible();
  await expectAccessible(hub);
});

test("sees what the repository publishes, with versions, digests and the command that pulls them", async ({ hub }) => {
  await open(hub, "packages");
  await expect(hub.getByText("No package was found")).toBeVisible();
  await expectAccessible(hub);
  const first = await publishImage(login, "web", ["v1.0.0"], "My.Website");
  // The page follows by itself.
  const pull = (digest: string) => `docker pull containers.${new URL(bed.simulator).host}/${login}/web@${digest}`;
  await expect(hub.getByText(pull(first)).first()).toBeVisible();
  const second = await publishImage(login, "web", ["v1.1.0", "latest"], "My.Website");
  await publish(login, "npm", "ui", { version: "2.1.0" }, "My.Website");
  await expect(hub.getByText("Only the versions of container images are listed here.")).toBeVisible();
  const web = hub.getByRole("listitem").filter({ hasText: "Versions of web" });
  // The newest version is a signature, which nobody wants to pull.
  await expect(web.locator("> .pc-line")).toHaveText(pull(second));
  await web.getByText("Versions of web").click();
  const rows = web.locator("tbody tr");
  await expect(rows.filter({ hasText: "v1.1.0" })).toContainText("latest");
  await expect(rows.filter({ hasText: "v1.1.0" })).toContainText(second);
  await expect(rows.filter({ hasText: "v1.0.0" })).toContainText(first);
  expect(await copied(hub, web.getByRole("button", { name: "Copy the pull command", exact: true }))).toBe(pull(second));
  await expectAccessible(hub);
  await hub.getByLabel("Type").selectOption("npm");
  await expect(hub.getByText("1 in all")).toBeVisible();
  await expect(web).toHaveCount(0);

  // The same on the page of the repository, by its label.
  await hub.getByRole("link", { name: "my-website" }).click();
  const section = hub.getByRole("region", { name: "Packages" });
  await expect(section.getByText(pull(second)).first()).toBeVisible();
  await expect(section.getByRole("listitem").filter({ hasText: "npm" })).toContainText("ui");

  await onHost("DELETE", `/packages/${login}/npm/ui`);
  await open(hub, "packages");
  await expect(hub.getByText("Versions of web")).toBeVisible();
  await expect(hub.getByText("1 in all")).toBeVisible();
});

test("edits the settings in place", async ({ hub }) => {
  await open(hub, "repositories/my-website/overview");
  await hub.getByRole("button", { name: "Edit", exact: true }).click();
  await hub.getByLabel("Description").fill("Another description");
  await hub.getByLabel("When this object is deleted").selectOption("Delete");
  expect(parse(await copied(hub, hub.getByRole("button", { name: "Copy as YAML" }).first()))).toMatchObject({ kind: "Repository", spec: { description: "Another description", deletionPolicy: "Delete" } });
  await expect(hub.getByText("No MCP tool changes an existing object").first()).toBeVisible();
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(hub.getByText("Delete it on the host", { exact: true })).toBeVisible();
  await expect.poll(() => onHost("GET", `/repos/${login}/My.Website`)).toMatchObject({ description: "Another description" });
});

test("is told of a conflict, and saves on top of what another has written", async ({ hub }) => {
  await open(hub, "repositories/my-website/overview");
  await hub.getByRole("button", { name: "Edit", exact: true }).click();
  await hub.getByLabel("Description").fill("Mine");
  await graphql(
    'mutation { code_kedge_faros_sh { v1alpha1 { updateRepository(name: "my-website", object: { spec: { missingPolicy: "Report" } }) { metadata { name } } } } }',
    {},
    workspace,
  );
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(hub.getByRole("alert")).toContainText("Somebody else, or the provider, changed this object");
  await expect(hub.getByLabel("Description")).toHaveValue("Mine");
  await expect(hub.getByLabel("When the repository is not on the host any more")).toHaveValue("Report");
  await hub.getByRole("button", { name: "Save" }).click();
  await expect.poll(() => onHost("GET", `/repos/${login}/My.Website`)).toMatchObject({ description: "Mine" });
});

test("adds, changes and deletes a deploy key", async ({ hub }) => {
  await open(hub, "repositories/my-website/overview");
  await hub.getByRole("button", { name: "Add a deploy key" }).click();
  await hub.getByLabel("Title").fill("laptop");
  await hub.getByLabel("Paste a public key").check();
  await hub.getByLabel("Public key", { exact: true }).fill("-----BEGIN OPENSSH PRIVATE KEY-----");
  await hub.getByRole("button", { name: "Add", exact: true }).click();
  await expect(hub.getByRole("alert")).toContainText("That is a private key");
  await hub.getByLabel("Public key", { exact: true }).fill("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq9yzZ1nX4C0b6cQ0e6r8cXw2o2o1wq4w2mZrj3mX5v");
  await expectAccessible(hub);
  await hub.getByRole("button", { name: "Add", exact: true }).click();
  const item = hub.getByRole("region", { name: "Deploy keys" }).getByRole("listitem").filter({ hasText: "laptop" }).first();
  await expect(item.locator(".pc-badge").first()).toHaveText("Ready");
  await expect(item).toContainText("Reads");
  await item.getByRole("button", { name: "Edit deploy key laptop" }).click();
  await hub.getByLabel("Read only").uncheck();
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(item).toContainText("Reads and pushes");
  await item.getByRole("button", { name: "Delete deploy key laptop?" }).click();
  await expect(hub.getByRole("dialog")).toContainText(`The deploy key is removed from ${login}/My.Website`);
  await expectAccessible(hub);
  await hub.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await expect(item).toHaveCount(0);
});

test("adds, changes and removes a collaborator", async ({ hub }) => {
  await open(hub, "repositories/my-website/overview");
  const people = hub.getByRole("region", { name: "Collaborators" });
  await people.getByRole("button", { name: "Add a collaborator" }).click();
  await hub.getByLabel("Login on the host").fill(ben);
  await hub.getByLabel("Access ends").fill("2039-01-01T10:00");
  await expectAccessible(hub);
  await hub.getByRole("button", { name: "Add", exact: true }).click();
  const item = people.getByRole("listitem").filter({ hasText: ben }).first();
  await expect(item.locator(".pc-badge").first()).toHaveText("Invited");
  await expect(item).toContainText("2039");
  await item.getByRole("button", { name: `Edit the access of ${ben}` }).click();
  await hub.getByLabel("Access ends").fill("");
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(item).toContainText("never");
  await item.getByRole("button", { name: `Take the access of ${ben} away?` }).click();
  await hub.getByRole("button", { name: "Remove", exact: true }).click();
  await expect(item).toHaveCount(0);
});

test("replaces the token: a wrong one is explained, a right one mends it", async ({ hub }) => {
  await open(hub, `connections/${connection}/overview`);
  for (const [value, words] of [["ghp_wrong", "Needs action"], [token, "Connected"]] as const) {
    await hub.getByRole("button", { name: "Replace the token" }).click();
    await hub.getByLabel("Token", { exact: true }).fill(value);
    await hub.getByRole("button", { name: "Replace", exact: true }).click();
    await expect(badge(hub, words)).toBeVisible();
    if (words === "Needs action") await expect(hub.getByText("Somebody who administers the account or the credential on the git host has to act there")).toBeVisible();
  }
});

test("deletes the repository by typing its name, with what holds it", async ({ hub }) => {
  await open(hub, "repositories/my-website/overview");
  await hub.getByRole("button", { name: "Delete", exact: true }).click();
  const dialog = hub.getByRole("dialog");
  await expect(dialog).toContainText(`${login}/My.Website is deleted on the host, with its code, issues and everything in it.`);
  await expect(dialog.getByRole("button", { name: "Delete", exact: true })).toBeDisabled();
  await dialog.getByLabel("Delete these 2, too").check();
  await dialog.getByLabel("Type my-website to confirm").fill("my-website");
  await expectAccessible(hub);
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await expect(hub).toHaveURL(/\/repositories$/);
  await hub.getByText("Create your first repository").waitFor();
  await expect(onHost("GET", `/repos/${login}/My.Website`)).rejects.toThrow("404");
});

test("deletes the connection", async ({ hub }) => {
  await open(hub, `connections/${connection}/overview`);
  await hub.getByRole("button", { name: "Delete", exact: true }).click();
  await hub.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await expect(hub.getByText("Connect your first account")).toBeVisible();
});
