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

const image = (digit: string, tags: string[]) => ({ digest: `sha256:${digit.repeat(64)}`, tags, createdAt: "2026-11-20T10:00:00Z" });
const packaged = (name: string, type: string, versions: object[]) => ({
  metadata: { name: `website-${type}-${name.replace(/\W/g, "")}`, uid: name, resourceVersion: "1", generation: 1, creationTimestamp: "2026-11-20T10:00:00Z", deletionTimestamp: null, annotations: null },
  spec: { repositoryRef: "website" },
  status: {
    observedGeneration: 1,
    packageName: name,
    type,
    visibility: "private",
    htmlURL: `https://github.com/orgs/acme/packages/${type}/package/${encodeURIComponent(name)}`,
    imageRepository: type === "container" ? `ghcr.io/acme/${name}` : null,
    versionCount: versions.length,
    updatedAt: "2026-11-20T10:00:00Z",
    lastSyncTime: "2026-11-30T10:00:00Z",
    versions,
    conditions: [{ type: "Ready", status: "True", reason: "Reconciled", message: "", lastTransitionTime: "2026-11-20T10:00:00Z", observedGeneration: 1 }],
  },
});
const packages = {
  resourceVersion: "1",
  continue: null,
  remainingItemCount: null,
  items: [
    packaged("web", "container", [image("a", [`sha256-${"b".repeat(64)}.sig`]), image("b", ["v1.4.0", "latest"]), image("c", ["v1.3.2"])]),
    packaged("@acme/ui", "npm", [{ digest: "2.1.0", tags: [], createdAt: "2026-11-20T10:00:00Z" }]),
  ],
};

const views: Readonly<Record<string, (page: Page) => Promise<void>>> = {
  connections: async (page) => {
    await open(page, "connections", workspace);
    await page.getByText("Connected").waitFor();
    await page.getByText("Needs action").waitFor();
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
    // The crawler makes these objects from what a host has, and deletes others: here they are what the page is told.
    await page.route("**/graphql/**", (route) =>
      route.request().postData()?.includes("query ListPackages") ? route.fulfill({ json: { data: { code_kedge_faros_sh: { v1alpha1: { Packages: packages } } } } }) : route.fallback(),
    );
    await open(page, "packages", workspace);
    await page.getByText("@acme/ui").first().waitFor();
    await page.getByText("Versions of web").click();
    await page.getByText("v1.4.0").waitFor();
    await page.unrouteAll({ behavior: "wait" });
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
