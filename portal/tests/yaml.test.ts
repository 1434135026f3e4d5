import { expect, test } from "vitest";
import { parse } from "yaml";
import { toYaml } from "../src/export/yaml";

test.each([
  "plain",
  "true",
  "No",
  "null",
  "~",
  "123",
  "0x1f",
  "1e3",
  "2026-11-01",
  "",
  " leading",
  "a: b",
  "a #b",
  "- x",
  "&anchor",
  "*alias",
  "!tag",
  "%dir",
  "@x",
  "`x`",
  "'single'",
  '"double"',
  "multi\nline\n---\n",
  "tab\there",
  "\u0085\u2028\u2029\ufeff",
  "\u0000\u0007\u007f",
  "<img src=x onerror=alert(1)>",
  "emoji 🎉",
])("the string %j reads back as itself, as a value and as a key", (value) => {
  const written = { spec: { value, [`k${value}`]: 1 }, list: [value, { value }] };
  expect(parse(toYaml(written))).toEqual(written);
});

test("entries without a value are left out, and empty ones are kept", () => {
  expect(toYaml({ a: undefined, b: null, c: false, d: 0, e: {}, f: [] })).toBe("c: false\nd: 0\ne: {}\nf: []\n");
});
