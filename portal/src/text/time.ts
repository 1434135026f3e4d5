import { text } from "./en";

const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** "3 hours ago", or undefined for what is no time. */
export function relativeTime(time: string | null | undefined, now: number): string | undefined {
  const at = Date.parse(time ?? "");
  if (Number.isNaN(at)) return undefined;
  const seconds = Math.round((at - now) / 1000);
  // The clocks of this page and of the server differ a little, and this page looks at its own now and then.
  if (Math.abs(seconds) < 60) return text.common.justNow;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["minute", 60];
  return relative.format(Math.trunc(seconds / size), unit);
}

export function absoluteTime(time: string | null | undefined): string | undefined {
  const at = Date.parse(time ?? "");
  return Number.isNaN(at) ? undefined : absolute.format(at);
}

/** A time of the API as `<input type="datetime-local">` wants it: in local time, without seconds. */
export function toLocalInput(time: string | null | undefined): string {
  const at = new Date(time ?? "");
  if (Number.isNaN(at.getTime())) return "";
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

export function fromLocalInput(value: string): string | null {
  const at = new Date(value);
  return value === "" || Number.isNaN(at.getTime()) ? null : at.toISOString().replace(/\.\d+Z$/, "Z");
}
