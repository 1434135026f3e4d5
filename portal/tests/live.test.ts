// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createApp, defineComponent, h, shallowRef } from "vue";
import { Problem } from "../src/api/problem";
import type { KedgeContext } from "../src/context";
import { pauseBefore } from "../src/live/pace";
import { useLive, type Live, type Source } from "../src/live/useLive";
import { SESSION, type Session } from "../src/session/session";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  setHidden(false);
  vi.useRealTimers();
});

function setHidden(hidden: boolean): void {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}

/** A component that has the source live. */
function run<T>(source: Source<T>) {
  let live: Live<T> | undefined;
  const context = shallowRef<KedgeContext>({ tenant: "one", token: "t1" });
  const app = createApp(
    defineComponent(() => {
      live = useLive(source);
      return () => h("p");
    }),
  );
  app.provide(SESSION, { context, client: { signal: new AbortController().signal } } as unknown as Session);
  app.mount(document.createElement("div"));
  return { live: live as Live<T>, context, end: () => app.unmount() };
}

const later = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const refused = () => Promise.reject(new Problem("other", "no subscriptions here"));

test("without a subscription what is busy is asked for every 2 seconds, and what is calm every 10", async () => {
  let isBusy = true;
  let version = 0;
  const load = vi.fn(() => Promise.resolve({ version: (version += 1) }));
  const { end } = run({ load, watches: () => [refused], isBusy: () => isBusy });
  await later(0);
  expect(load).toHaveBeenCalledTimes(1);
  await later(6_000);
  expect(load).toHaveBeenCalledTimes(4);
  isBusy = false;
  await later(2_000);
  await later(9_000);
  expect(load).toHaveBeenCalledTimes(5);
  await later(1_000);
  expect(load).toHaveBeenCalledTimes(6);
  end();
});

test("what does not change is asked for ever more rarely", () => {
  const pauses = [0, 2, 4, 6, 20].map((quiet) => pauseBefore({ busy: false, subscribed: false, quiet }));
  expect(pauses).toEqual([10_000, 10_000, 22_500, 50_625, 120_000]);
  expect(pauseBefore({ busy: true, subscribed: false, quiet: 5 })).toBe(2_000);
  expect(pauseBefore({ busy: true, subscribed: true, quiet: 0 })).toBe(60_000);
});

test("a hidden tab asks nothing and holds no subscription; shown again, it asks at once", async () => {
  const load = vi.fn(() => Promise.resolve(1));
  const signals: AbortSignal[] = [];
  const { end } = run({
    load,
    watches: () => [
      ({ opened }, signal) => {
        signals.push(signal);
        opened();
        return new Promise(() => undefined);
      },
    ],
  });
  await later(0);
  expect([load.mock.calls.length, signals.length]).toEqual([1, 1]);
  setHidden(true);
  expect(signals[0]?.aborted).toBe(true);
  await later(600_000);
  expect(load).toHaveBeenCalledTimes(1);
  setHidden(false);
  await later(0);
  expect([load.mock.calls.length, signals.length]).toEqual([2, 2]);
  end();
  expect(signals[1]?.aborted).toBe(true);
});

test("an answer that comes while the tab is hidden is the last one", async () => {
  const answers: (() => void)[] = [];
  const load = vi.fn(() => new Promise<number>((resolve) => answers.push(() => resolve(1))));
  const { end } = run({ load, watches: () => [refused] });
  await later(0);
  setHidden(true);
  answers[0]?.();
  await later(600_000);
  expect(load).toHaveBeenCalledTimes(1);
  end();
});

test("an open subscription is relied on: the page asks once a minute, and once for a burst of events", async () => {
  const load = vi.fn(() => Promise.resolve(1));
  let changed: (() => void) | undefined;
  const { end } = run({
    load,
    watches: () => [
      (handlers) => {
        handlers.opened();
        changed = handlers.changed;
        return new Promise(() => undefined);
      },
    ],
  });
  await later(59_000);
  expect(load).toHaveBeenCalledTimes(1);
  for (let event = 0; event < 500; event += 1) changed?.();
  await later(250);
  expect(load).toHaveBeenCalledTimes(2);
  end();
  changed?.();
  await later(120_000);
  expect(load).toHaveBeenCalledTimes(2);
});

test("a subscription that ends is opened again, from the newest version", async () => {
  let version = 0;
  const versions: number[] = [];
  const { end } = run({
    load: () => Promise.resolve((version += 1)),
    watches: (loaded) => [
      ({ opened }) => {
        versions.push(loaded);
        opened();
        return versions.length === 1 ? Promise.resolve() : new Promise(() => undefined);
      },
    ],
  });
  await later(30_000);
  expect(versions).toHaveLength(2);
  expect(versions[1]).toBeGreaterThan(versions[0] ?? 0);
  end();
});

test("a workspace that is being prepared is asked every 2 seconds for a while, and then told to be without the API", async () => {
  const load = vi.fn(() => Promise.reject(new Problem("preparing")));
  const { live, end } = run({ load, watches: () => [] });
  await later(0);
  expect(live.preparing.value).toBe(true);
  await later(20_000);
  expect(load).toHaveBeenCalledTimes(11);
  await later(80_000);
  expect(live.preparing.value).toBe(false);
  end();
});

test("a new token is tried at once", async () => {
  const load = vi.fn<() => Promise<number>>().mockRejectedValueOnce(new Problem("session")).mockResolvedValue(1);
  const { live, context, end } = run({ load, watches: () => [] });
  await later(0);
  expect(live.problem.value?.kind).toBe("session");
  context.value = { ...context.value, token: "t2" };
  await later(0);
  expect([live.problem.value, live.data.value]).toEqual([undefined, 1]);
  end();
});

test("a later request aborts the earlier one, whose answer is not shown", async () => {
  const answers: ((value: string) => void)[] = [];
  const signals: AbortSignal[] = [];
  const { live, end } = run<string>({
    load: (signal) => {
      signals.push(signal);
      return new Promise((resolve) => answers.push(resolve));
    },
    watches: () => [],
  });
  let isDone = false;
  void live.refresh().then(() => (isDone = true));
  await later(0);
  expect(signals[0]?.aborted).toBe(true);
  void live.refresh();
  await later(0);
  // Who has asked waits for what is asked instead.
  expect([signals[1]?.aborted, isDone]).toEqual([true, false]);
  answers[1]?.("older");
  await later(0);
  expect([live.data.value, isDone]).toEqual([undefined, false]);
  answers[2]?.("new");
  await later(0);
  expect(isDone).toBe(true);
  answers[0]?.("old");
  await later(0);
  expect(live.data.value).toBe("new");
  end();
});

test("a subscription that breaks makes the page look at once, so that it soon says that the server is gone", async () => {
  let breaks: (() => void) | undefined;
  const load = vi.fn<() => Promise<number>>().mockResolvedValueOnce(1).mockRejectedValue(new Problem("unreachable"));
  const { live, end } = run({
    load,
    watches: () => [
      ({ opened }) => {
        opened();
        return new Promise((_, reject) => (breaks = () => reject(new TypeError("network error"))));
      },
    ],
  });
  await later(0);
  breaks?.();
  await later(250);
  expect(live.problem.value?.kind).toBe("unreachable");
  expect(live.data.value).toBe(1);
  end();
});

test("events that come faster than the server answers neither stop a look nor are lost", async () => {
  const answers: (() => void)[] = [];
  const signals: AbortSignal[] = [];
  let changed: (() => void) | undefined;
  const { live, end } = run({
    load: (signal) => {
      signals.push(signal);
      return new Promise<number>((resolve) => answers.push(() => resolve(answers.length)));
    },
    watches: () => [
      (handlers) => {
        handlers.opened();
        changed = handlers.changed;
        return new Promise(() => undefined);
      },
    ],
  });
  answers[0]?.();
  await later(0);
  changed?.();
  await later(250);
  for (let event = 0; event < 10; event += 1) {
    await later(100);
    changed?.();
  }
  expect([signals.length, signals[1]?.aborted]).toEqual([2, false]);
  answers[1]?.();
  await later(0);
  expect(live.data.value).toBe(2);
  // The look took a second, so the page rests for three before it looks for what it has missed.
  await later(2_900);
  expect(signals).toHaveLength(2);
  await later(200);
  expect(signals).toHaveLength(3);
  end();
});

test("a gateway that has no schema for a moment after a long outage is waited for", async () => {
  const load = vi.fn<() => Promise<number>>().mockResolvedValueOnce(1).mockRejectedValue(new Problem("unreachable"));
  const { live, end } = run({ load, watches: () => [] });
  await later(600_000);
  expect(live.problem.value?.kind).toBe("unreachable");
  load.mockReset().mockRejectedValueOnce(new Problem("preparing")).mockResolvedValue(2);
  await later(5_000);
  expect([live.problem.value?.kind, live.preparing.value]).toEqual(["preparing", true]);
  await later(2_000);
  expect([live.problem.value, live.data.value]).toEqual([undefined, 2]);
  end();
});

test("a subscription that is refused while another is open is tried again, with the other", async () => {
  const subscribed = [0, 0];
  const signals: AbortSignal[] = [];
  const { end } = run({
    load: () => Promise.resolve(1),
    watches: () => [
      ({ opened }, signal) => {
        subscribed[0]! += 1;
        signals.push(signal);
        opened();
        return new Promise(() => undefined);
      },
      ({ opened }) => {
        subscribed[1]! += 1;
        if (subscribed[1] === 1) return refused();
        opened();
        return new Promise(() => undefined);
      },
    ],
  });
  await later(40_000);
  expect(subscribed).toEqual([2, 2]);
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
  await later(600_000);
  expect(subscribed).toEqual([2, 2]);
  end();
});

test("a hidden tab asks nothing for a new token, nor for an event that came just before", async () => {
  const load = vi.fn(() => Promise.resolve(1));
  let changed: (() => void) | undefined;
  const { context, end } = run({
    load,
    watches: () => [
      (handlers) => {
        handlers.opened();
        changed = handlers.changed;
        return new Promise(() => undefined);
      },
    ],
  });
  await later(0);
  changed?.();
  setHidden(true);
  changed?.();
  context.value = { ...context.value, token: "t2" };
  await later(10_000);
  expect(load).toHaveBeenCalledTimes(1);
  setHidden(false);
  await later(0);
  expect(load).toHaveBeenCalledTimes(2);
  // The event is not owed any more, and the next one is heard.
  changed?.();
  await later(250);
  expect(load).toHaveBeenCalledTimes(3);
  end();
});

test("who touches a page that has long been quiet has it asked for soon", async () => {
  const load = vi.fn(() => Promise.resolve(1));
  const { end } = run({ load, watches: () => [refused] });
  await later(1_000_000);
  load.mockClear();
  await later(120_000);
  expect(load.mock.calls.length).toBeLessThanOrEqual(1);
  load.mockClear();
  document.dispatchEvent(new Event("pointerdown"));
  await later(10_000);
  expect(load).toHaveBeenCalledTimes(1);
  end();
});
