import { defineConfig } from "@playwright/test";

const LONG = ["journey.spec.ts", "views.spec.ts"];
const OUTAGE = "outage.spec.ts";

/** The stack is started by tests/e2e/test_portal.py, which runs this. The browser is the system's: none is downloaded. */
export default defineConfig({
  testDir: ".",
  outputDir: "../test-results",
  // Two files at a time, each in its own workspace: the tests mostly wait for what the services do.
  workers: 2,
  // Nothing waits for these where all is well. A machine on which others work, too, takes ten times as long.
  timeout: 400_000,
  expect: { timeout: 90_000 },
  reporter: "list",
  projects: [
    // The longest first: one that began last would run alone.
    { name: "long", testMatch: LONG },
    { name: "short", testIgnore: [...LONG, OUTAGE] },
    // It stops what all the others need.
    { name: "outage", testMatch: OUTAGE, dependencies: process.env.CODE_PORTAL_SPECS ? [] : ["long", "short"] },
  ],
  use: {
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 900 },
    permissions: ["clipboard-read", "clipboard-write"],
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.CODE_CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    },
  },
});
