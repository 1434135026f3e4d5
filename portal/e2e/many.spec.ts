import { badge, bed, createObject, createPausedRepositories, expect, open, test } from "./bed";

const workspace = bed.workspaces.many;
test.use({ workspace });

test("500 repositories are paged, searched and sorted", async ({ hub }) => {
  test.setTimeout(400_000);
  // Of a connection that does not exist, so that the host is left alone.
  const names = Array.from({ length: 499 }, (_, index) => `many-${String(index).padStart(3, "0")}`);
  await createPausedRepositories(names, "nowhere", workspace);
  await createObject("Repository", "many-499", { connectionRef: "nowhere", name: "many-499" }, workspace);
  await open(hub, "repositories");
  await expect(hub.getByText("50 of 500")).toBeVisible();
  await expect(hub.locator("tbody tr")).toHaveCount(50);
  await hub.getByRole("button", { name: "Show more" }).click();
  await expect(hub.locator("tbody tr")).toHaveCount(100);
  await hub.getByLabel("Search").fill("many-498");
  await expect(hub.locator("tbody tr")).toHaveCount(1);
  await expect(hub.getByRole("link", { name: "many-498" })).toBeVisible();
  await hub.getByLabel("Search").fill("");
  await hub.getByLabel("Sort by").selectOption("status");
  await expect(hub.locator("tbody tr").first()).toContainText("many-499");
  await hub.getByRole("link", { name: "many-499" }).click();
  await expect(badge(hub, "Needs action")).toBeVisible();
  await expect(hub.getByText(/Create the Connection nowhere/)).toBeVisible();
});
