import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bed-"));
  writeFileSync(join(folder, "bed.json"), JSON.stringify({ hub: "https://hub.example", workspaces: {} }));
  vi.stubEnv("CODE_PORTAL_BED", join(folder, "bed.json"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** A page whose script runs from one load on, and whose request for it fails before. */
function pageOf(runsFrom: number) {
  let loads = 0;
  const listeners = new Set<(request: object) => void>();
  const page = {
    on: (_: string, listener: (request: object) => void) => listeners.add(listener),
    off: (_: string, listener: (request: object) => void) => listeners.delete(listener),
    goto: (url: string) => {
      if ((loads += 1) >= runsFrom) return Promise.resolve();
      for (const listener of listeners) listener({ method: () => "GET", url: () => `${url}hub.js`, failure: () => ({ errorText: "net::ERR_RESET" }) });
      return Promise.resolve();
    },
    locator: () => ({ evaluate: () => Promise.resolve(loads >= runsFrom) }),
  };
  return { page: page as unknown as Page, listeners, loads: () => loads };
}

test("a visit loads a page of the hub again whose script was lost", async () => {
  const { visit } = await import("../e2e/bed");
  const { page, listeners, loads } = pageOf(3);
  await visit(page, "/ui/");
  expect([loads(), listeners.size]).toEqual([3, 0]);
});

test("a visit fails where the script of the hub's page stays away, and says what was missing", async () => {
  const { visit } = await import("../e2e/bed");
  const { page, loads } = pageOf(4);
  await expect(visit(page, "/ui/")).rejects.toThrow(/at \/ui\/ did not run in three loads[^]*GET https:\/\/hub\.example\/ui\/hub\.js: net::ERR_RESET/);
  expect(loads()).toBe(3);
});
