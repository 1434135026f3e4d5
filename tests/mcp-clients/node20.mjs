// The suite for the newest revision wants Node.js 22, because it imports `globSync` from `fs`. It never calls it for a server.
// Loaded with `node --import`, this module lets it start on Node.js 20.
import fs from "node:fs";
import { register } from "node:module";

const FS = 'data:text/javascript,export * from "node:fs"; export const globSync = () => [];';
const HOOK = `
  export async function resolve(specifier, context, next) {
    const wanted = specifier === "fs" && context.parentURL?.includes("/node_modules/conformance-next/");
    return wanted ? { url: ${JSON.stringify(FS)}, shortCircuit: true } : next(specifier, context);
  }`;

if (!("globSync" in fs)) {
  register(`data:text/javascript,${encodeURIComponent(HOOK)}`);
}
