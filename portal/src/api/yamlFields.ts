import type { Fields } from "../export/manifests";

/**
 * The YAML of an object with other values in fields of its spec; null takes a field away. The gateway writes one entry a line, and what
 * belongs to an entry is indented deeper, so no parser is needed.
 */
export function withFields(yaml: string, spec: Fields): string {
  const lines = yaml.split("\n");
  const start = lines.indexOf("spec:") + 1;
  if (start === 0) return yaml;
  const indent = indentOf(lines[start] ?? "");
  const kept: string[] = [];
  let isInSpec = true;
  let isDropped = false;
  for (const line of lines.slice(start)) {
    const depth = indentOf(line);
    if (line !== "" && depth === 0) isInSpec = false;
    if (isInSpec && line !== "" && depth === indent) isDropped = Object.keys(spec).some((field) => line.trimStart().startsWith(`${field}:`));
    if (!isInSpec || !isDropped) kept.push(line);
  }
  const written = Object.entries(spec)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([field, value]) => `${" ".repeat(indent)}${field}: ${flow(value)}`);
  return [...lines.slice(0, start), ...written, ...kept].join("\n");
}

/** JSON is YAML, but for the characters that YAML refuses or takes for line breaks. */
function flow(value: unknown): string {
  return JSON.stringify(value).replace(/[\u007f-\u00a0\u2028\u2029\ufeff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}
