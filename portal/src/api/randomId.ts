/** 32 hex digits. `crypto.randomUUID` would need HTTPS, which the hub of a developer lacks. */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
