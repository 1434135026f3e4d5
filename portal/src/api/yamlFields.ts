/**
 * The YAML of an object without some fields of its spec. The gateway writes one entry a line, and what belongs to an entry is
 * indented deeper, so no parser is needed.
 */
export function withoutFields(yaml: string, fields: readonly string[]): string {
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
    if (isInSpec && line !== "" && depth === indent) isDropped = fields.some((field) => line.trimStart().startsWith(`${field}:`));
    if (!isInSpec || !isDropped) kept.push(line);
  }
  return [...lines.slice(0, start), ...kept].join("\n");
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}
