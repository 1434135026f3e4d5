import { badge, bed, expect, open, test } from "./bed";

// tests/e2e/test_portal.py has made them, of a connection that does not exist: many-000 to many-498 are paused, many-499 is not.
test.use({ workspace: bed.workspaces.many });

test("500 repositories are paged, searched and sorted", async ({ hub }) => {
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
