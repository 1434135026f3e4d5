import { bed, chooseWorkspace, connect, createObject, expect, expectAccessible, onHost, open, test } from "./bed";
import type { Page } from "@playwright/test";

// Every view in both themes, wide and narrow: without violations, and as pictures where CODE_SCREENSHOTS names a folder.
const folder = process.env.CODE_SCREENSHOTS;
const [workspace] = bed.workspaces;
const { login } = bed.account;

test.beforeAll(async () => {
  // A test that failed is followed by another process, which finds all of this.
  await made(connect("acme", workspace));
  await made(createObject("Repository", "website", { connectionRef: "acme", name: "website", visibility: "private", description: "The public website" }, workspace));
  await made(createObject("DeployKey", "website-ci", { repositoryRef: "website", title: "ci", readOnly: true, rotateEvery: "2160h" }, workspace));
  await made(createObject("Collaborator", "website-rita", { repositoryRef: "website", username: bed.guests[0], permission: "push" }, workspace));
  await made(createObject("Repository", "docs", { connectionRef: "acme", name: "docs", visibility: "public" }, workspace));
  await made(onHost("POST", "/repos", { owner: login, name: "legacy" }));
  await made(createObject("Repository", "legacy", { connectionRef: "acme", name: "legacy", adoptionPolicy: "CreateOnly" }, workspace));
  await made(createObject("Connection", "old", { provider: "github", type: "pat", owner: login, baseURL: bed.simulator, secretRef: { name: "missing" } }, workspace));
});

function made(work: Promise<unknown>): Promise<unknown> {
  return work.catch((error: unknown) => {
    if (!/already exists|is taken/.test(String(error))) throw error;
  });
}

const views: Readonly<Record<string, (page: Page) => Promise<void>>> = {
  connections: async (page) => {
    await open(page, "connections", workspace);
    await page.getByText("Connected").waitFor();
    await page.getByText("Needs action").or(page.getByText("In progress")).first().waitFor();
  },
  connection: async (page) => {
    await open(page, "connections/acme/overview", workspace);
    await page.getByText("Create repositories").waitFor();
  },
  connect: async (page) => {
    await open(page, "connections", workspace);
    await page.getByRole("button", { name: "Connect an account" }).click();
    await page.getByLabel("Account", { exact: true }).fill("acme");
  },
  repositories: async (page) => {
    await open(page, "repositories", workspace);
    await page.getByText("NameTaken").waitFor();
  },
  "create-repository": async (page) => {
    await open(page, "repositories", workspace);
    await page.getByRole("button", { name: "Create a repository" }).click();
    await page.getByLabel("Name on the host").fill("shop");
    await page.getByText("More settings").click();
  },
  repository: async (page) => {
    await open(page, "repositories/website/overview", workspace);
    await page.getByText("Invited", { exact: true }).waitFor();
    await page.getByText("In Secret default/deploykey-website-ci").waitFor();
  },
  "repository-explained": async (page) => {
    await open(page, "repositories/legacy/overview", workspace);
    await page.getByText("Needs action").waitFor();
  },
  "repository-settings": async (page) => {
    await open(page, "repositories/website/overview", workspace);
    await page.getByRole("button", { name: "Edit", exact: true }).click();
  },
  "delete-repository": async (page) => {
    await open(page, "repositories/website/overview", workspace);
    await page.getByText("Invited", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
  },
  packages: async (page) => {
    await open(page, "packages", workspace);
    await page.getByRole("heading", { name: "Packages" }).waitFor();
    await expect(page.getByText("Loading…")).toHaveCount(0);
  },
  tile: async (page) => {
    await page.goto(`${bed.hub}/ui/`);
    await chooseWorkspace(page, workspace);
    await page.getByText(/needs? action/).waitFor();
  },
};

for (const [theme, size, width] of [["dark", "wide", 1280], ["dark", "narrow", 390], ["light", "wide", 1280], ["light", "narrow", 390]] as const) {
  test(`every view, ${theme}, ${size}`, async ({ hub }) => {
    test.setTimeout(300_000);
    await hub.setViewportSize({ width, height: 900 });
    await hub.evaluate((value) => localStorage.setItem("kedge-theme", value), theme);
    for (const [name, show] of Object.entries(views)) {
      await test.step(name, async () => {
        await show(hub);
        await expectAccessible(hub);
        // Nothing is wider than the page.
        const overflow = await hub.evaluate(() => Math.max(...[...document.querySelectorAll(".pc, .pc-dialog")].map((root) => root.scrollWidth - root.clientWidth)));
        expect(overflow, `${name} is wider than the page`).toBeLessThanOrEqual(1);
        const isPictured = (theme === "dark") === (size === "wide");
        if (folder && isPictured) await hub.screenshot({ path: `${folder}/portal-${name}-${theme}-${size}.png`, fullPage: !(await hub.locator("dialog[open]").count()), animations: "disabled" });
      });
    }
  });
}
