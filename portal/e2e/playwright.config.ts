import { defineConfig } from "@playwright/test";

/** The stack is started by tests/e2e/test_portal.py, which runs this. The browser is the system's: none is downloaded. */
export default defineConfig({
  testDir: ".",
  outputDir: "../test-results",
  // One browser at a time: the machine runs a whole control plane beside it.
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  reporter: "line",
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
