import { computed, onScopeDispose, shallowRef, watch, type ComputedRef, type ShallowRef } from "vue";
import { isAborted, problemOf, type Problem } from "../api/problem";
import { useSession } from "../session/session";
import { pauseBefore } from "./pace";

/** An open subscription. It resolves when the server ends the stream, and rejects with a `Problem`. */
export type Subscribe = (handlers: { readonly opened: () => void; readonly changed: () => void }, signal: AbortSignal) => Promise<void>;

export interface Source<T> {
  readonly load: (signal: AbortSignal) => Promise<T>;
  /** What tells of changes of what was loaded. */
  readonly watches: (loaded: T) => readonly Subscribe[];
  /** Whether anything in it is being worked on. */
  readonly isBusy?: (loaded: T) => boolean;
}

export interface Live<T> {
  readonly data: ShallowRef<T | undefined>;
  /** Why there is nothing, or why what is shown is not fresh. */
  readonly problem: ShallowRef<Problem | undefined>;
  /** Whether the workspace's schema is being waited for. */
  readonly preparing: ComputedRef<boolean>;
  readonly refresh: () => Promise<void>;
}

/** Enabling the provider takes seconds; what is not there after this is not coming by itself. */
const PREPARING = 90_000;
const PREPARING_PAUSE = 2_000;
const UNREACHABLE_PAUSE = 5_000;
/** Events come in bursts: one change of an object is several writes. */
const GATHER = 250;
/** How many times as long as a look took the page waits before the next one that an event asks for. */
const REST = 3;
const RESUBSCRIBE = 15_000;

/**
 * Loads what a page shows, and again when it changes: by subscriptions where the gateway gives them, else by asking now and then.
 * Nothing is asked in a hidden tab. Everything ends with the component, and with the workspace.
 */
export function useLive<T>(source: Source<T>): Live<T> {
  const session = useSession();
  const data = shallowRef<T>();
  const problem = shallowRef<Problem>();
  const unpreparedSince = shallowRef(0);
  const now = shallowRef(Date.now());
  let request = new AbortController();
  let newest: Promise<void> | undefined;
  let streams = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let gathering: ReturnType<typeof setTimeout> | undefined;
  let resubscribeAt = 0;
  let wanted = 0;
  let open = 0;
  let quiet = 0;
  let asking: AbortSignal | undefined;
  let missed = false;
  let took = 0;
  let shown = "";
  let ended = false;

  const isWaiting = () => problem.value?.kind === "preparing" && now.value - unpreparedSince.value < PREPARING;
  const preparing = computed(isWaiting);

  /** Resolves once the newest request is answered, which may be a later one than this. */
  async function refresh(): Promise<void> {
    const mine = (newest = ask());
    await mine;
    if (newest !== mine) await newest;
  }

  async function ask(): Promise<void> {
    if (ended) return;
    clearTimeout(timer);
    request.abort();
    request = new AbortController();
    const { signal } = request;
    const began = Date.now();
    asking = signal;
    try {
      const loaded = await source.load(signal);
      if (signal.aborted || session.client.signal.aborted || ended) return;
      took = Date.now() - began;
      const text = JSON.stringify(loaded);
      quiet = text === shown ? quiet + 1 : 0;
      // What is the same is not drawn again, so that nothing moves under a pointer.
      if (text !== shown || data.value === undefined) data.value = loaded;
      shown = text;
      problem.value = undefined;
      subscribe(loaded);
    } catch (error) {
      if (isAborted(error) || signal.aborted || ended) return;
      const found = problemOf(error);
      // A gateway that has just started has no schemas for a moment, however long it was away.
      if (found.kind === "preparing" && problem.value?.kind !== "preparing") unpreparedSince.value = Date.now();
      problem.value = found;
    } finally {
      if (asking === signal) asking = undefined;
    }
    now.value = Date.now();
    schedule();
    if (missed) changed();
  }

  function schedule(): void {
    clearTimeout(timer);
    if (ended || document.hidden) return;
    timer = setTimeout(() => void refresh(), pause());
  }

  function pause(): number {
    switch (problem.value?.kind) {
      case undefined:
        return pauseBefore({
          busy: data.value !== undefined && (source.isBusy?.(data.value) ?? false),
          subscribed: wanted > 0 && open === wanted,
          quiet,
        });
      case "preparing":
        return isWaiting() ? PREPARING_PAUSE : 60_000;
      case "unreachable":
        return UNREACHABLE_PAUSE;
      default:
        return 60_000;
    }
  }

  function subscribe(loaded: T): void {
    // All are opened anew where one was refused or has ended: they are told of changes since one and the same look.
    if (document.hidden || (wanted > 0 && open === wanted) || Date.now() < resubscribeAt) return;
    resubscribeAt = Date.now() + RESUBSCRIBE;
    streams.abort();
    const controller = (streams = new AbortController());
    const all = source.watches(loaded);
    wanted = all.length;
    open = 0;
    for (const one of all) {
      let counted = false;
      const opened = () => {
        if (controller !== streams) return;
        counted = true;
        open += 1;
        schedule();
      };
      const over = () => {
        if (controller !== streams || ended) return;
        if (counted) open -= 1;
        // What changed until the next one is open would be missed. If the server is gone, the page is to say so.
        if (counted) changed();
        else schedule();
      };
      one({ opened, changed }, controller.signal).then(over, over);
    }
  }

  function changed(): void {
    // A look that is under way goes on, or it would never come to an end while there are many events. It may have missed this one.
    missed = asking !== undefined;
    // A tab that is shown again looks anyway.
    if (missed || gathering !== undefined || ended || document.hidden) return;
    gathering = setTimeout(() => {
      gathering = undefined;
      if (!document.hidden) void refresh();
    }, Math.max(GATHER, REST * took));
  }

  function visibilityChanged(): void {
    if (document.hidden) {
      clearTimeout(timer);
      closeStreams();
      return;
    }
    resubscribeAt = 0;
    void refresh();
  }

  function closeStreams(): void {
    const controller = streams;
    streams = new AbortController();
    open = 0;
    controller.abort();
  }

  function touched(): void {
    if (quiet > 3) {
      quiet = 0;
      schedule();
    }
  }

  // A renewed token may be what was missing.
  watch(
    () => session.context.value.token,
    () => {
      resubscribeAt = 0;
      closeStreams();
      if (!document.hidden) void refresh();
    },
  );
  document.addEventListener("visibilitychange", visibilityChanged);
  document.addEventListener("pointerdown", touched, { passive: true });
  document.addEventListener("keydown", touched, { passive: true });
  onScopeDispose(() => {
    ended = true;
    clearTimeout(timer);
    clearTimeout(gathering);
    request.abort();
    closeStreams();
    document.removeEventListener("visibilitychange", visibilityChanged);
    document.removeEventListener("pointerdown", touched);
    document.removeEventListener("keydown", touched);
  });
  void refresh();
  return { data, problem, preparing, refresh };
}
