import { vi } from "vitest";

export interface Asked {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal;
}

export type Answer = (asked: Asked) => Response | Promise<Response>;

/** Replaces `fetch`. Returns what was asked, in order. */
export function serve(answer: Answer): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    const signal = init.signal as AbortSignal;
    const { query = "", variables = {} } = init.body ? (JSON.parse(String(init.body)) as { query?: string; variables?: Record<string, unknown> }) : {};
    const one = { url, headers: { ...(init.headers as Record<string, string>) }, query, variables, signal };
    asked.push(one);
    return new Promise<Response>((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      Promise.resolve(answer(one)).then(resolve, reject);
    });
  });
  return asked;
}

export function json(data: unknown, status = 200): Response {
  return new Response(JSON.stringify(data), { status, headers: { "Content-Type": "application/json" } });
}

export function api(fields: object): Response {
  return json({ data: { code_kedge_faros_sh: { v1alpha1: fields } } });
}

export function failed(message: string): Response {
  return json({ data: { code_kedge_faros_sh: { v1alpha1: null } }, errors: [{ message }] });
}

/** The annotations of what was asked to be created, by which a form knows its object again. */
export function annotationsOf({ variables }: Asked): Readonly<Record<string, string>> {
  return (variables.object as { metadata: { annotations: Record<string, string> } }).metadata.annotations;
}

/** What a server does that does what it is asked, and whose answer is lost. */
export function lost(): Response {
  return new Response("", { status: 504 });
}

export function list(items: readonly object[], more: object = {}): object {
  return { items, resourceVersion: "10", continue: null, remainingItemCount: null, ...more };
}

/** A response whose events the test writes. */
export function stream(): { readonly response: Response; readonly write: (text: string) => void; readonly close: () => void } {
  const pipe = new TransformStream<Uint8Array, Uint8Array>();
  const writer = pipe.writable.getWriter();
  const encoder = new TextEncoder();
  return {
    response: new Response(pipe.readable, { headers: { "Content-Type": "text/event-stream" } }),
    write: (text) => void writer.write(encoder.encode(text)).catch(() => undefined),
    close: () => void writer.close().catch(() => undefined),
  };
}

/** Until `look` gives something true, in real time. */
export async function until<T>(look: () => T | undefined | null | false, what = "it"): Promise<T> {
  return vi.waitFor(
    () => {
      const found = look();
      if (!found) throw new Error(`${what} is not so yet`);
      return found;
    },
    { timeout: 20_000, interval: 5 },
  );
}

/** jsdom has no modal dialogs. */
export function stubDialogs(): void {
  HTMLDialogElement.prototype.showModal = function () {
    this.setAttribute("open", "");
  };
  HTMLDialogElement.prototype.close = function () {
    this.removeAttribute("open");
  };
}
