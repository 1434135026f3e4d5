import type { KedgeContext } from "../context";
import type { TypedDocument } from "./document";
import { kindOfMessage, kindOfStatus, Problem } from "./problem";
import { eventsOf } from "./sse";

/** Milliseconds for an answer. kcp answers in a few; a page must say so when nothing comes. */
const ANSWER_TIMEOUT = 30_000;
const LONGEST_DETAIL = 600;

export interface Client {
  /** The workspace of all that this client reads and writes. */
  readonly cluster: string;
  /** Ends with the workspace: everything in flight is aborted then, and every later call. */
  readonly signal: AbortSignal;
  request<Result, Variables>(
    document: TypedDocument<Result, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Result>;
  /** Calls `next` for each event until `signal` is aborted. Resolves when the server ends the stream. */
  subscribe<Result, Variables>(
    document: TypedDocument<Result, Variables>,
    variables: Variables,
    handlers: { readonly opened?: () => void; readonly next: (result: Result) => void },
    signal: AbortSignal,
  ): Promise<void>;
}

/**
 * A client for one workspace. `context` is asked for each request, so that a renewed token is used at once and none is kept here.
 * Every rejection is a {@link Problem}, or an `AbortError` once the workspace, or the caller, has gone away. Anything else is a defect
 * of ours, and says nothing about the server.
 */
export function createClient(context: () => KedgeContext, lifetime: AbortSignal): Client {
  const cluster = context().tenant ?? "";
  const path = `/graphql/${encodeURIComponent(cluster)}`;

  async function post(query: string, variables: unknown, accept: string, signal: AbortSignal): Promise<Response> {
    signal.throwIfAborted();
    const { token } = context();
    const body = JSON.stringify({ query, variables });
    let response: Response;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: accept,
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
        },
        body,
        signal,
        credentials: "omit",
        cache: "no-store",
      });
    } catch (error) {
      lifetime.throwIfAborted();
      signal.throwIfAborted();
      throw noAnswer(error);
    }
    signal.throwIfAborted();
    if (!response.ok) throw await refusal(response);
    return response;
  }

  return {
    cluster,
    signal: lifetime,
    async request(document, variables, signal) {
      const timeout = new AbortController();
      const timer = setTimeout(() => timeout.abort(), ANSWER_TIMEOUT);
      const gone = AbortSignal.any(signal ? [lifetime, signal] : [lifetime]);
      try {
        const response = await post(document, variables, "application/json", AbortSignal.any([gone, timeout.signal]));
        const answer = (await response.json().catch((error: unknown) => Promise.reject(noAnswer(error)))) as Answer<never>;
        // The body may have come after the workspace was left.
        gone.throwIfAborted();
        return resultOf(answer);
      } catch (error) {
        gone.throwIfAborted();
        if (timeout.signal.aborted) throw new Problem("unreachable", "no answer within 30 seconds");
        throw error;
      } finally {
        clearTimeout(timer);
      }
    },
    async subscribe(document, variables, { opened, next }, signal) {
      const gone = AbortSignal.any([lifetime, signal]);
      const response = await post(document, variables, "text/event-stream", gone);
      if (!response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        throw new Problem("other", "no event stream");
      }
      opened?.();
      for await (const event of eventsOf(response.body)) {
        gone.throwIfAborted();
        if (event.name === "complete") return;
        if (event.data) next(resultOf(JSON.parse(event.data) as Answer<never>));
      }
    },
  };
}

/** What `fetch` threw, or reading the body, as a {@link Problem} if it means that no whole answer came. */
function noAnswer(error: unknown): unknown {
  // Something in between answered, most often in HTML.
  if (error instanceof SyntaxError) return new Problem("unreachable", "the answer is not JSON");
  return error instanceof TypeError || error instanceof DOMException ? new Problem("unreachable", error.message) : error;
}

interface Answer<Result> {
  readonly data?: Result | null;
  readonly errors?: readonly { readonly message?: string }[];
}

function resultOf<Result>({ data, errors }: Answer<Result>): Result {
  if (errors?.length) {
    const detail = errors.map((error) => error.message ?? "").join("; ").slice(0, LONGEST_DETAIL);
    throw new Problem(kindOfMessage(detail), detail);
  }
  if (data === undefined || data === null) throw new Problem("other", "the answer holds no data");
  return data;
}

async function refusal(response: Response): Promise<Problem> {
  const text = (await response.text().catch(() => "")).slice(0, LONGEST_DETAIL);
  const kind = kindOfStatus(response.status);
  return new Problem(kind === "other" ? kindOfMessage(text) : kind, plainText(text));
}

/** A proxy answers in HTML, which helps nobody. */
function plainText(text: string): string {
  return /<[a-z!]/i.test(text) ? "" : text.trim();
}
