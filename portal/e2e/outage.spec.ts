import { badge, bed, createObject, expect, expectAccessible, graphql, made, open, switchGraphql, test } from "./bed";

// Ends the process that answers all of the portal's requests. So it runs when all other files are done.
const workspace = bed.workspaces.trouble;
test.use({ workspace });

let isDown = false;

async function turn(to: "kill" | "start"): Promise<void> {
  await switchGraphql(to);
  isDown = to === "kill";
}

test.beforeAll(async () => {
  await made(createObject("Repository", "outage", { connectionRef: "nowhere", name: "outage", description: "Before" }, workspace));
});
test.afterEach(async () => {
  if (isDown) await turn("start");
});

test("while the gateway is down an open page says so and keeps what was typed; it goes on by itself, without a reload", async ({ context, hub }) => {
  await open(hub, "repositories/outage/overview");
  await expect(badge(hub, "Needs action")).toBeVisible();
  await hub.evaluate(() => Object.assign(window, { wasNotReloaded: true }));
  await hub.getByRole("button", { name: "Edit", exact: true }).click();
  await hub.getByLabel("Description").fill("Typed before");

  await turn("kill");
  const note = hub.getByText("What is shown may be old: The server does not answer.");
  await expect(note).toBeVisible();
  await expect(hub.getByLabel("Description")).toHaveValue("Typed before");
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(hub.getByRole("alert")).toContainText("The server did not answer, so it is not known whether this was done.");
  await expectAccessible(hub);
  // A page that is opened meanwhile has nothing to show, and says why.
  const other = await context.newPage();
  await open(other, "repositories");
  await expect(other.getByText("The server does not answer")).toBeVisible();
  await expectAccessible(other);

  await turn("start");
  await expect(note).toHaveCount(0);
  await expect(other.getByRole("link", { name: "outage" })).toBeVisible();
  await hub.getByRole("button", { name: "Save" }).click();
  await expect(hub.getByText("Typed before")).toBeVisible();
  // And it follows what others change again.
  const change = 'mutation { code_kedge_faros_sh { v1alpha1 { updateRepository(name: "outage", object: { spec: { description: "Of another" } }) { metadata { name } } } } }';
  await graphql(change, {}, workspace);
  await expect(hub.getByText("Of another")).toBeVisible();
  expect(await hub.evaluate(() => (window as { wasNotReloaded?: boolean }).wasNotReloaded)).toBe(true);
});
