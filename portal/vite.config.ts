import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import vue from "@vitejs/plugin-vue";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** What tells one build from another: a hash of what it is made from. */
function bundleVersion(): string {
  const hash = createHash("sha256");
  for (const file of ["package-lock.json", ...sources("src")].sort()) hash.update(file).update(readFileSync(new URL(file, import.meta.url)));
  return hash.digest("hex").slice(0, 16);
}

function sources(folder: string): string[] {
  const root = fileURLToPath(new URL(".", import.meta.url));
  return readdirSync(`${root}${folder}`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

const version = bundleVersion();

/** Writes the version beside the script, so that a tab which was left open can ask for it. */
function versionFile(): Plugin {
  return {
    name: "version-file",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "version.txt", source: version });
    },
  };
}

export default defineConfig({
  base: "/ui/providers/code/",
  plugins: [vue(), versionFile()],
  define: {
    // A library build leaves this to whoever bundles it, and the hub's page bundles nothing.
    "process.env.NODE_ENV": JSON.stringify(process.env.VITEST ? "test" : "production"),
    __VUE_OPTIONS_API__: "false",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    __BUNDLE_VERSION__: JSON.stringify(version),
  },
  build: {
    // The gateway serves this folder, see gateway/assets.py.
    outDir: fileURLToPath(new URL("../services/gateway/gateway/portal", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    rolldownOptions: { checks: { pluginTimings: false } },
    lib: { entry: "src/main.ts", formats: ["iife"], name: "KedgeProviderCode", fileName: () => "main.js" },
  },
  test: {
    environment: "node",
    include: ["tests/**/*.test.ts"],
    restoreMocks: true,
    // For machines on which others work, too.
    testTimeout: 60_000,
  },
});
