import { badge, bed, expect, expectAccessible, onHost, open, test } from "./bed";
import type { Page } from "@playwright/test";

// Connect with GitHub, through the hub's proxy and the simulated host.
const { login } = bed.accounts.many;
test.use({ workspace: bed.workspaces.many });

async function begin(page: Page): Promise<void> {
  await open(page, "connections");
  await page.getByRole("button", { name: "Connect an account" }).first().click();
  await page.getByLabel("Connect with GitHub").check();
}

async function agrees(user: string | null): Promise<void> {
  await onHost("PATCH", `/oauth-apps/${bed.oauthApp}`, { approve_as: user });
}

test("who signs in to GitHub is connected, and the token is in no address and no text", async ({ hub }) => {
  await agrees(login);
  await begin(hub);
  await expectAccessible(hub);
  const [popup] = await Promise.all([hub.waitForEvent("popup"), hub.getByRole("button", { name: "Sign in to GitHub" }).click()]);
  await expect(hub.getByText(`GitHub has given a token of ${login}`)).toBeVisible();
  await expect(hub.getByLabel("Account", { exact: true })).toHaveValue(login);
  await expect.poll(() => popup.isClosed()).toBe(true);
  await hub.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(badge(hub, "Connected")).toBeVisible();
  await expect(hub.getByText("OAuth token")).toBeVisible();
  expect(await hub.evaluate(() => document.documentElement.innerHTML + location.href + JSON.stringify(sessionStorage) + JSON.stringify(localStorage))).not.toMatch(/gho_/);
});

test("who denies is told so, and may try again", async ({ hub }) => {
  await agrees(null);
  await begin(hub);
  await hub.getByRole("button", { name: "Sign in to GitHub" }).click();
  await expect(hub.getByRole("alert")).toContainText("GitHub did not give a token");
  await expect(hub.getByRole("button", { name: "Sign in to GitHub" })).toBeEnabled();
});
