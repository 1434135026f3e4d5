import { badge, bed, chooseTheme, connect, createObject, expect, made, onHost, open, publish, publishImage, test, violations, visit } from "./bed";
import type { Page } from "@playwright/test";

// Every view and every dialog in both themes, wide and narrow. CODE_SCREENSHOTS names a folder for pictures of them.
const folder = process.env.CODE_SCREENSHOTS;
const { views: workspace } = bed.workspaces;
const { login } = bed.accounts.views;
test.use({ workspace });

test.beforeAll(async () => {
  await made(connect("acme", bed.accounts.views, workspace));
  await made(createObject("Repository", "website", { connectionRef: "acme", name: "website", visibility: "private", description: "The public website" }, workspace));
  await made(createObject("DeployKey", "website-ci", { repositoryRef: "website", title: "ci", readOnly: true, rotateEvery: "2160h" }, workspace));
  await made(createObject("Collaborator", "website-rita", { repositoryRef: "website", username: bed.guests[0], permission: "push" }, workspace));
  await made(createObject("Repository", "docs", { connectionRef: "acme", name: "docs", visibility: "public" }, workspace));
  await made(onHost("POST", "/repos", { owner: login, name: "legacy" }));
  await made(createObject("Repository", "legacy", { connectionRef: "acme", name: "legacy", adoptionPolicy: "CreateOnly" }, workspace));
  await made(createObject("Connection", "old", { provider: "github", type: "pat", owner: login, baseURL: bed.simulator, secretRef: { name: "missing" } }, workspace));
  await expect.poll(() => onHost("GET", `/repos/${login}/website`).then(Boolean, () => false)).toBe(true);
  await publishImage(login, "web", ["v1.3.2"], "website");
  await publishImage(login, "web", ["v1.4.0", "latest"], "website");
  await publish(login, "npm", "ui", { version: "2.1.0" }, "website");
});

type Show = (page: Page) => Promise<void>;

/** What a button opens, in a dialog. */
function dialog(button: string, fill?: Show): Show {
  return async (page) => {
    await page.getByRole("button", { name: button, exact: true }).first().click();
    await page.getByRole("dialog").waitFor();
    await fill?.(page);
  };
}

/** A view, and what is opened from it, one after the other. All are looked at. The names are those of their pictures. */
interface View {
  readonly show: Show;
  /** Until it is there again after the hub's page has drawn itself anew, for another theme. */
  readonly again?: Show;
  readonly dialogs?: Readonly<Record<string, Show>>;
  /** In the view itself, so it comes last. */
  readonly last?: Readonly<Record<string, Show>>;
}

const views: Readonly<Record<string, View>> = {
  connections: {
    show: async (page) => {
      await open(page, "connections");
      await page.getByText("Connected").waitFor();
      await page.getByText("Needs action").waitFor();
    },
    dialogs: { connect: dialog("Connect an account", (page) => page.getByLabel("Account", { exact: true }).fill("acme")) },
  },
  connection: {
    show: async (page) => {
      await open(page, "connections/acme/overview");
      await page.getByText("Create repositories").waitFor();
    },
    dialogs: { "replace-token": dialog("Replace the token"), "delete-connection": dialog("Delete") },
  },
  repositories: {
    show: async (page) => {
      await open(page, "repositories");
      await page.getByText("NameTaken").waitFor();
    },
    dialogs: {
      "create-repository": dialog("Create a repository", async (page) => {
        await page.getByLabel("Name on the host").fill("shop");
        await page.getByLabel("Generate a deploy key, too").check();
        await page.getByRole("button", { name: "Add a collaborator" }).click();
        await page.getByText("More settings").click();
      }),
    },
    last: {
      "no-match": async (page) => {
        await page.getByLabel("Search").fill("nothing of that name");
        await page.getByText("No repository matches the search.").waitFor();
      },
    },
  },
  repository: {
    show: async (page) => {
      await open(page, "repositories/website/overview");
      await page.getByText("Invited", { exact: true }).waitFor();
      await page.getByText("In Secret default/deploykey-website-ci").waitFor();
    },
    dialogs: {
      "delete-repository": dialog("Delete"),
      "add-deploy-key": dialog("Add a deploy key", (page) => page.getByLabel("Paste a public key").check()),
      "edit-deploy-key": dialog("Edit deploy key ci"),
      "delete-deploy-key": dialog("Delete deploy key ci?"),
      "add-collaborator": dialog("Add a collaborator"),
      "edit-collaborator": dialog(`Edit the access of ${bed.guests[0]}`),
      "remove-collaborator": dialog(`Take the access of ${bed.guests[0]} away?`),
    },
    last: { "repository-settings": (page) => page.getByRole("button", { name: "Edit", exact: true }).click() },
  },
  "repository-explained": {
    show: async (page) => {
      await open(page, "repositories/legacy/overview");
      await badge(page, "Needs action").waitFor();
    },
  },
  packages: {
    show: async (page) => {
      await open(page, "packages");
      await page.getByText("Only the versions of container images are listed here.").waitFor();
      await page.getByText("Versions of web").click();
      await page.getByText("v1.4.0").waitFor();
    },
  },
  tile: {
    show: async (page) => {
      await visit(page, "/ui/");
      await page.getByText(/needs? action/).waitFor();
    },
    again: (page) => page.getByText(/needs? action/).waitFor(),
  },
};

/** What stands in the place of content. What leads to it really is tested elsewhere. */
const states: Readonly<Record<string, Show>> = {
  "no-connections": (page) => told(page, "connections", "Connections", "Connect your first account"),
  "no-repositories": (page) => told(page, "repositories", "Repositories", "Create your first repository"),
  "no-packages": (page) => told(page, "packages", "Packages", "No package was found"),
  "not-there": async (page) => {
    await open(page, "repositories/gone/overview");
    await page.getByText("It does not exist").waitFor();
  },
  "session-over": (page) => answered(page, 401, "Your session has ended"),
  forbidden: (page) => answered(page, 403, "You may not see this"),
  preparing: (page) => answered(page, 404, "This workspace is being prepared"),
  unreachable: (page) => answered(page, 502, "The server does not answer"),
};

async function told(page: Page, subPath: string, list: string, words: string): Promise<void> {
  const empty = { items: [], resourceVersion: "1", continue: null, remainingItemCount: null };
  await page.route("**/graphql/**", (route) =>
    route.request().postData()?.includes(`query List${list}`) ? route.fulfill({ json: { data: { code_kedge_faros_sh: { v1alpha1: { [list]: empty } } } } }) : route.fallback(),
  );
  await open(page, subPath);
  await page.getByText(words).waitFor();
}

async function answered(page: Page, status: number, words: string): Promise<void> {
  await page.route("**/graphql/**", (route) => route.fulfill({ status, body: "" }));
  await open(page, "repositories");
  await page.getByText(words).waitFor();
}

const SIZES = { wide: 1280, narrow: 390 } as const;
// All violations are looked for in each theme and in each width; that a width breaks the colours of one theme alone cannot be.
const LOOKS = [["dark", "wide", true], ["light", "wide", false], ["light", "narrow", true], ["dark", "narrow", false]] as const;

/** Looks at what is shown in all themes and sizes. A finding does not keep the test from looking at the rest. */
async function examine(page: Page, name: string, hasPicture: boolean, again?: Show): Promise<void> {
  for (const [theme, size, isExamined] of LOOKS) {
    await page.setViewportSize({ width: SIZES[size], height: 900 });
    await chooseTheme(page, theme);
    await again?.(page);
    const what = `${name}, ${theme}, ${size}`;
    const overflow = await page.evaluate(() => Math.max(...[...document.querySelectorAll(".pc, .pc-dialog")].map((root) => root.scrollWidth - root.clientWidth)));
    expect.soft(overflow, `${what}: how much wider it is than the page`).toBeLessThanOrEqual(1);
    if (!isExamined) continue;
    expect.soft(await violations(page), what).toEqual([]);
    if (folder && hasPicture) await page.screenshot({ path: `${folder}/portal-${name}-${theme}-${size}.png`, fullPage: !(await page.locator("dialog[open]").count()), animations: "disabled" });
  }
}

// One page for a view and all that is opened from it: a page that is loaded anew takes longer than a look at it.
for (const [name, { show, again, dialogs = {}, last = {} }] of Object.entries(views)) {
  test(`${[name, ...Object.keys(dialogs), ...Object.keys(last)].join(", ")}: in both themes, wide and narrow`, async ({ hub }) => {
    await hub.setViewportSize({ width: SIZES.wide, height: 900 });
    await show(hub);
    await examine(hub, name, true, again);
    for (const [opened, enter] of Object.entries(dialogs)) {
      await enter(hub);
      await examine(hub, opened, true);
      await hub.keyboard.press("Escape");
      await expect(hub.getByRole("dialog")).toHaveCount(0);
    }
    for (const [changed, enter] of Object.entries(last)) {
      await enter(hub);
      await examine(hub, changed, changed !== "no-match");
    }
  });
}

test(`${Object.keys(states).join(", ")}: in both themes, wide and narrow`, async ({ hub }) => {
  for (const [name, show] of Object.entries(states)) {
    await hub.unroute("**/graphql/**");
    await show(hub);
    await examine(hub, name, false);
  }
});

test("everything is reached and done with the keyboard alone", async ({ hub }) => {
  const focused = () => hub.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent?.trim() ?? "");
  async function tabTo(words: string): Promise<void> {
    // On a busy machine a page may still be loading.
    await hub.getByRole("link", { name: words, exact: true }).or(hub.getByRole("button", { name: words, exact: true })).first().waitFor();
    const passed: string[] = [];
    for (let presses = 0; presses < 200; presses += 1) {
      await hub.keyboard.press("Tab");
      passed.push(await focused());
      if (passed.at(-1) === words) return;
    }
    throw new Error(`no ${words} among ${passed.join(" | ")}`);
  }
  const heading = hub.locator(".pc h1");

  await open(hub, "connections");
  await hub.getByRole("link", { name: "acme", exact: true }).waitFor();
  await tabTo("Connect an account");
  await hub.keyboard.press("Enter");
  await expect(hub.getByRole("dialog").locator(":focus")).toHaveCount(1);
  // The focus stays in the dialog, and comes back with Escape.
  for (let presses = 0; presses < 15; presses += 1) await hub.keyboard.press("Tab");
  expect(await hub.evaluate(() => document.activeElement === document.body || document.activeElement?.closest("dialog") !== null)).toBe(true);
  await hub.keyboard.press("Escape");
  await expect(hub.getByRole("button", { name: "Connect an account" })).toBeFocused();

  await tabTo("acme");
  await hub.keyboard.press("Enter");
  await expect(hub).toHaveURL(/connections\/acme\/overview$/);
  await expect(heading).toBeFocused();
  await tabTo("Check now");
  await hub.keyboard.press("Enter");
  await expect(hub.getByRole("status").filter({ hasText: "The provider was asked to check" })).toBeVisible();
  await tabTo("website");
  await hub.keyboard.press("Enter");
  await expect(heading).toBeFocused();
  await hub.getByText("Invited", { exact: true }).waitFor();

  await tabTo("Edit");
  await hub.keyboard.press("Enter");
  await expect(hub.getByLabel("Description")).toBeFocused();
  await hub.keyboard.press("End");
  await hub.keyboard.type(", by keyboard");
  await hub.keyboard.press("Enter");
  await expect(hub.getByText("The public website, by keyboard")).toBeVisible();
  await expect(hub.getByRole("button", { name: "Edit", exact: true })).toBeFocused();
  await tabTo("Delete deploy key ci?");
  await hub.keyboard.press("Enter");
  await hub.getByRole("dialog").waitFor();
  await hub.keyboard.press("Escape");
  await expect(hub.getByRole("button", { name: "Delete deploy key ci?" })).toBeFocused();
});
