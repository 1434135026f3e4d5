import { defineConfig } from "@playwright/test";

/** The stack is started by tests/e2e/test_portal.py, which runs this. The browser is the system's: none is downloaded. */
export default defineConfig({
  testDir: ".",
  outputDir: "../test-results",
  // Two files at a time, each in its own workspace: the tests mostly wait for what the services do.
  workers: 2,
  // A machine on which others work, too, takes ten times as long.
  timeout: 180_000,
  expect: { timeout: 40_000 },
  reporter: "list",
  projects: [
    { name: "portal", testIgnore: "outage.spec.ts" },
    // It stops what all the others need.
    { name: "outage", testMatch: "outage.spec.ts", dependencies: process.env.CODE_PORTAL_SPECS ? [] : ["portal"] },
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
