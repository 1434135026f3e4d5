// @vitest-environment jsdom
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import { parse } from "yaml";
import type { KedgeContext } from "../src/context";
import { ELEMENT, TILE } from "../src/names";
import { register } from "../src/register";
import { api, failed, list, serve, stream, stubDialogs, until } from "./server";

// What the provider that ours replaces has left, in a workspace that is taken over.
type Found = { readonly metadata: { readonly name: string } };
const kinds = parse(readFileSync(join(import.meta.dirname, "../../tests/fixtures/go-provider/objects/objects.yaml"), "utf8")) as Readonly<Record<string, Found[]>>;

beforeAll(() => {
  stubDialogs();
  register("version-1");
});
afterEach(() => {
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

async function page(subPath: string, ready: string): Promise<string> {
  return (await shown(subPath, ready)).textContent ?? "";
}

/** The words of a dialog that a button of a page opens, with the values of its fields. */
async function dialog(subPath: string, ready: string, button: string): Promise<string> {
  const element = await shown(subPath, ready);
  const found = [...element.querySelectorAll("button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent?.trim()) === button);
  found?.click();
  const opened = await until(() => element.querySelector("dialog, .pc-card form"), button);
  const values = [...opened.querySelectorAll<HTMLInputElement | HTMLSelectElement>("input, select")].map((field) =>
    field instanceof HTMLSelectElement ? field.selectedOptions[0]?.textContent : field.type === "checkbox" ? String(field.checked) : field.value,
  );
  return [opened.textContent, ...values].join(" | ");
}

async function shown(subPath: string, ready: string, tag = ELEMENT): Promise<HTMLElement> {
  serve(({ query, variables, headers }) => {
    if (headers.Accept === "text/event-stream") return stream().response;
    const plural = /\b(Connections|Repositories|DeployKeys|Collaborators|Packages)\(/.exec(query)?.[1];
    if (plural) {
      // None of them has a label, but for packages.
      const isAsked = plural === "Packages" || !String(variables.selector ?? "!").includes("=");
      return api({ [plural]: list(isAsked ? (kinds[plural.toLowerCase()] ?? []) : []) });
    }
    const kind = /\b(Connection|Repository)\(name/.exec(query)?.[1] ?? "";
    const found = kinds[kind === "Connection" ? "connections" : "repositories"]?.find(({ metadata }) => metadata.name === variables.name);
    return found ? api({ [kind]: found }) : failed(`"${String(variables.name)}" not found`);
  });
  const element = document.createElement(tag) as HTMLElement & { kedgeContext: KedgeContext };
  document.body.append(element);
  element.kedgeContext = { tenant: "one", token: "t", subPath, basePath: "/ui/providers/code" };
  await until(() => element.textContent?.includes(ready), `${ready} in ${element.textContent ?? ""}`);
  return element;
}

test("its connections are connected, or say what is missing and who acts", async () => {
  const shown = await page("connections", "github-acme");
  expect(shown).toContain("Connected");
  expect(shown).toContain("Needs action");
  const broken = await page("connections/github-broken", "is not ready");
  expect(broken).toContain("secret default/github-broken-token not found");
  expect(broken).toContain("Somebody who may change objects of this workspace has to act.");
});

test("a connection of it shows login, scopes and what uses it", async () => {
  const shown = await page("connections/github-acme/overview", "Used by");
  for (const words of ["delete_repo", "default/github-acme-token", "website", "Connect with GitHub"]) expect(shown).toContain(words);
});

test("its repositories are ready, or name the connection that they wait for", async () => {
  const shown = await page("repositories", "website");
  for (const words of ["Ready", "ConnectionNotReady", "website"]) expect(shown).toContain(words);
  const waiting = await page("repositories/waiting", "is not ready");
  expect(waiting).toContain("So the cause is Connection github-broken.");
});

test("a repository of it shows its addresses, keys, collaborators and packages", async () => {
  const shown = await page("repositories/website", "git clone");
  for (const words of [
    "git clone https://github.com/acme/website.git",
    "git clone git@github.com:acme/website.git",
    "In Secret default/deploykey-website-ci-a1b2c3",
    "rita",
    "sent, not accepted yet",
    `docker pull ghcr.io/acme/app@sha256:${"2".repeat(64)}`,
  ])
    expect(shown).toContain(words);
});

test("a repository of it shows its settings and what its conditions mean", async () => {
  const shown = await page("repositories/website", "git clone");
  for (const words of ["Private", "The public website", "Take it over, else create one (default)", "Ready: yes", "repository reconciled", "The host is as declared."]) expect(shown).toContain(words);
});

test.each([
  ["connections/github-acme", "Used by", "Replace the token", ["default/github-acme-token"]],
  ["connections/github-acme", "Used by", "Delete", ["It is used by a repository", "website"]],
  ["repositories", "website", "Create a repository", ["github-acme (acme)"]],
  ["repositories/website", "git clone", "Edit", ["The public website", "Private", "github-acme (acme)", "Delete it if created here (default)"]],
  // It has not recorded who created what, so nothing is promised.
  ["repositories/website", "git clone", "Delete", ["It is not known who created acme/website.", "DeployKey website-ci-a1b2c3", "Collaborator website-rita"]],
  ["repositories/website", "git clone", "Edit deploy key ci", ["ci", "true", "Never"]],
  ["repositories/website", "git clone", "Delete deploy key ci?", ["The deploy key is removed from acme/website.", "The Secret with its generated pair is deleted, too."]],
  ["repositories/website", "git clone", "Edit the access of rita", ["Write (push)"]],
  ["repositories/website", "git clone", "Take the access of rita away?", ["The access of user rita to acme/website is withdrawn."]],
])("on its objects, %s: the dialog of “%s … %s” shows what is there", async (subPath, ready, button, wanted) => {
  const found = await dialog(subPath, ready, button);
  for (const words of wanted) expect(found).toContain(words);
});

test("the tile leads with what is broken of it", async () => {
  const tile = (await shown("", "needs action", TILE)).textContent;
  expect(tile).toContain("github-broken");
  expect(tile).toContain("CredentialUnavailable");
  // It waits for the connection, and is not broken itself.
  expect(tile).not.toContain("website");
});

test("its packages are listed with their versions, digests and tags", async () => {
  const shown = await page("packages", "Versions of app");
  for (const words of ["container", "Private", "v1.0.0", "latest", "1".repeat(64), "website"]) expect(shown).toContain(words);
});

test("its packages are shown with a command that pulls no signature", async () => {
  const shown = await page("packages", "app");
  expect(shown).toContain(`docker pull ghcr.io/acme/app@sha256:${"2".repeat(64)}`);
});
