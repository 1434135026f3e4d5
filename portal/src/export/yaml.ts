export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** `value` as YAML that reads back as the same value, whatever its strings hold. Undefined and null entries are left out. */
export function toYaml(value: { readonly [key: string]: Json | undefined }): string {
  return mapping(value, "");
}

function mapping(value: { readonly [key: string]: Json | undefined }, indent: string): string {
  return entriesOf(value)
    .map(([key, entry]) => `${indent}${scalar(key)}:${nested(entry, indent)}`)
    .join("");
}

function nested(value: Json, indent: string): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return " []\n";
    return `\n${value.map((item: Json) => `${indent}  -${nested(item, `${indent}  `)}`).join("")}`;
  }
  if (typeof value === "object" && value !== null) {
    const record = value as { readonly [key: string]: Json | undefined };
    return entriesOf(record).length === 0 ? " {}\n" : `\n${mapping(record, `${indent}  `)}`;
  }
  return ` ${scalar(value as string | number | boolean)}\n`;
}

function entriesOf(value: { readonly [key: string]: Json | undefined }): [string, Json][] {
  return Object.entries(value).filter((entry): entry is [string, Json] => entry[1] !== undefined && entry[1] !== null);
}

const PLAIN = /^[A-Za-z][A-Za-z0-9_./-]*$/;
// Words that YAML 1.1 or 1.2 reads as something else than a string.
const RESERVED = /^(true|false|yes|no|on|off|null|y|n)$/i;
// JSON leaves these as they are. YAML wants them escaped, or breaks lines at them.
// eslint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

function scalar(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  if (PLAIN.test(value) && !RESERVED.test(value)) return value;
  return JSON.stringify(value).replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
