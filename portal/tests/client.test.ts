// @vitest-environment jsdom
import { afterEach, describe, expect, test, vi } from "vitest";
import { createClient } from "../src/api/client";
import { GetConnection, ListConnections, WatchConnections } from "../src/api/operations.gen";
import { Problem } from "../src/api/problem";
import type { KedgeContext } from "../src/context";
import { api, failed, json, list, serve, stream, until } from "./server";

afterEach(() => vi.unstubAllGlobals());

function client(context: KedgeContext = { tenant: "2abc", token: "secret-token" }, lifetime = new AbortController()) {
  return createClient(() => context, lifetime.signal);
}

async function problemOf(promise: Promise<unknown>): Promise<Problem> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Problem);
  return error as Problem;
}

describe("a request", () => {
  test("goes to the workspace with the caller's token, and as JSON", async () => {
    const asked = serve(() => api({ Connections: list([]) }));
    await client().request(ListConnections, { limit: 5 });
    expect(asked[0]).toMatchObject({
      url: "/graphql/2abc",
      headers: { Authorization: "Bearer secret-token", Accept: "application/json", "Content-Type": "application/json" },
      variables: { limit: 5 },
    });
    expect(asked[0]?.query).toContain("query ListConnections");
  });

  test("uses the newest token, and the cluster is one path segment whatever it holds", async () => {
    const asked = serve(() => api({ Connections: list([]) }));
    let context: KedgeContext = { tenant: "a/../b?c", token: "old" };
    const made = createClient(() => context, new AbortController().signal);
    context = { ...context, token: "new" };
    await made.request(ListConnections, {});
    expect(asked[0]?.url).toBe("/graphql/a%2F..%2Fb%3Fc");
    expect(asked[0]?.headers.Authorization).toBe("Bearer new");
  });

  test.each([
    [404, "404 page not found", "preparing"],
    [401, "Unauthorized", "session"],
    [403, "no", "forbidden"],
    [409, "conflict", "conflict"],
    [429, "slow down", "unreachable"],
    [502, "provider upstream error", "unreachable"],
    [400, "a Connection is invalid: x", "invalid"],
    [400, "whatever", "other"],
  ])("that is answered with %i and %j is a problem of kind %s on line %#", async (status, body, kind) => {
    serve(() => new Response(body, { status }));
    expect((await problemOf(client().request(ListConnections, {}))).kind).toBe(kind);
  });

  test.each([
    ['Cannot query field "code_kedge_faros_sh" on type "Query".', "preparing"],
    ['Unknown argument "labelselector" on field "x".', "preparing"],
    ['Unknown type "CodeKedgeFarosShV1alpha1Connection_Input".', "preparing"],
    ["the server could not find the requested resource", "preparing"],
    ['connections.code.kedge.faros.sh "acme" not found', "missing"],
    ['connections.code.kedge.faros.sh "acme" already exists', "exists"],
    ['connections.code.kedge.faros.sh is forbidden: User "x" cannot list resource', "forbidden"],
    ['Operation cannot be fulfilled on x "acme": the object has been modified; please apply your changes to the latest version and try again', "conflict"],
    ['Connection.code.kedge.faros.sh "acme" is invalid: spec.owner: Invalid value: "x": owner cannot change', "invalid"],
    ["the server has asked for the client to provide credentials", "session"],
    ["something new", "other"],
  ])("whose answer has the error %j is a problem of kind %s", async (message, kind) => {
    serve(() => failed(message));
    const problem = await problemOf(client().request(ListConnections, {}));
    expect([problem.kind, problem.detail]).toEqual([kind, message]);
  });

  test("that never arrives, or is answered with what is not JSON, is unreachable", async () => {
    serve(() => Promise.reject(new TypeError("Failed to fetch")));
    expect((await problemOf(client().request(ListConnections, {}))).kind).toBe("unreachable");
    serve(() => new Response("<html>", { status: 200 }));
    expect((await problemOf(client().request(ListConnections, {}))).kind).toBe("unreachable");
    const broken = new ReadableStream({ start: (controller) => controller.error(new TypeError("network error")) });
    serve(() => new Response(broken, { status: 200 }));
    expect((await problemOf(client().request(ListConnections, {}))).kind).toBe("unreachable");
  });

  test.each([TypeError, RangeError])("whose answer we fail to read with a %o is no lost answer", async (Defect) => {
    const response = json({});
    const answer = { get errors(): never { throw new Defect("ours"); } };
    vi.spyOn(response, "json").mockResolvedValue(answer);
    serve(() => response);
    await expect(client().request(ListConnections, {})).rejects.toThrow(new Defect("ours"));
    const circular: Record<string, unknown> = {};
    circular.limit = circular;
    await expect(client().request(ListConnections, circular as never)).rejects.not.toBeInstanceOf(Problem);
  });

  test("shows no page of a proxy as the server's words", async () => {
    serve(() => new Response("<!doctype html><h1>Bad gateway</h1>", { status: 502 }));
    expect((await problemOf(client().request(ListConnections, {}))).detail).toBe("");
  });

  test("without an answer for 30 seconds is unreachable", async () => {
    vi.useFakeTimers();
    serve(() => new Promise(() => undefined));
    const problem = problemOf(client().request(ListConnections, {}));
    await vi.advanceTimersByTimeAsync(30_000);
    expect((await problem).kind).toBe("unreachable");
    vi.useRealTimers();
  });
});

describe("a workspace that is left", () => {
  test("aborts what is in flight, and delivers no answer that comes all the same", async () => {
    const lifetime = new AbortController();
    let answer: ((response: Response) => void) | undefined;
    const asked = serve(() => new Promise((resolve) => (answer = resolve)));
    const result = client(undefined, lifetime).request(GetConnection, { name: "acme" });
    await until(() => answer);
    lifetime.abort();
    expect(asked[0]?.signal.aborted).toBe(true);
    answer?.(api({ Connection: {} }));
    await expect(result).rejects.toHaveProperty("name", "AbortError");
  });

  test("delivers no answer whose body comes late", async () => {
    const lifetime = new AbortController();
    const response = api({ Connection: {} });
    vi.spyOn(response, "json").mockImplementation(() => {
      lifetime.abort();
      return Promise.resolve({ data: {} });
    });
    serve(() => response);
    await expect(client(undefined, lifetime).request(GetConnection, { name: "x" })).rejects.toHaveProperty("name", "AbortError");
  });

  test("refuses every later call", async () => {
    const lifetime = new AbortController();
    lifetime.abort();
    const asked = serve(() => json({}));
    await expect(client(undefined, lifetime).request(ListConnections, {})).rejects.toHaveProperty("name", "AbortError");
    expect(asked).toEqual([]);
  });
});

describe("a subscription", () => {
  test("asks for an event stream, tells each event, and ends with the server's word", async () => {
    const { response, write } = stream();
    const asked = serve(() => response);
    const [next, opened] = [vi.fn(), vi.fn()];
    const done = client().subscribe(WatchConnections, { version: "5" }, { next, opened }, new AbortController().signal);
    write('event: next\ndata: {"data":{"a":1}}\n\nevent: next\r\ndata: {"data":{"a":2}}\r\n\r\n:comment\n\nevent: comp');
    await until(() => next.mock.calls.length === 2);
    write("lete\n\n");
    await done;
    expect(asked[0]?.headers.Accept).toBe("text/event-stream");
    expect(opened).toHaveBeenCalledOnce();
    expect(next.mock.calls).toEqual([[{ a: 1 }], [{ a: 2 }]]);
  });

  test("ends with a problem when an event holds an error", async () => {
    const { response, write } = stream();
    serve(() => response);
    const done = client().subscribe(WatchConnections, {}, { next: () => undefined }, new AbortController().signal);
    write('event: next\ndata: {"errors":[{"message":"too old resource version"}]}\n\n');
    expect((await problemOf(done)).kind).toBe("other");
  });

  test("that is answered with JSON is a problem, so that the page asks now and then instead", async () => {
    serve(() => json({ data: {} }));
    expect((await problemOf(client().subscribe(WatchConnections, {}, { next: () => undefined }, new AbortController().signal))).kind).toBe("other");
  });
});

test("the token is in the header alone: not in the address, the body, the storage or the log", async () => {
  const logs = (["log", "info", "warn", "error", "debug"] as const).map((name) => vi.spyOn(console, name));
  const bodies: string[] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    bodies.push(url, String(init.body));
    return Promise.resolve(failed("anything"));
  });
  await problemOf(client().request(ListConnections, {}));
  expect(bodies.join()).not.toContain("secret-token");
  expect(logs.every((log) => log.mock.calls.length === 0)).toBe(true);
  expect(JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain("secret-token");
});
