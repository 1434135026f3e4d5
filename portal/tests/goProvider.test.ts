// @vitest-environment jsdom
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { parse } from "yaml";
import type { KedgeContext } from "../src/context";
import { ELEMENT } from "../src/names";
import { register } from "../src/register";
import { api, failed, list, serve, stream, until } from "./server";

// What the provider that ours replaces has left, in a workspace that is taken over.
type Found = { readonly metadata: { readonly name: string } };
const kinds = parse(readFileSync(join(import.meta.dirname, "../../tests/fixtures/go-provider/objects/objects.yaml"), "utf8")) as Readonly<Record<string, Found[]>>;

register("version-1");
afterEach(() => {
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

async function page(subPath: string, ready: string): Promise<string> {
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
  const element = document.createElement(ELEMENT) as HTMLElement & { kedgeContext: KedgeContext };
  document.body.append(element);
  element.kedgeContext = { tenant: "one", token: "t", subPath, basePath: "/ui/providers/code" };
  await until(() => element.textContent?.includes(ready), `${ready} in ${element.textContent ?? ""}`);
  return element.textContent ?? "";
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

test("its packages are shown with a command that pulls no signature", async () => {
  const shown = await page("packages", "app");
  expect(shown).toContain(`docker pull ghcr.io/acme/app@sha256:${"2".repeat(64)}`);
});
