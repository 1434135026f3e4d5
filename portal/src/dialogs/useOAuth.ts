import { onScopeDispose, ref, type Ref } from "vue";
import { randomId } from "../api/randomId";
import { BACKEND, workspaceHeaders } from "../context";
import { useSession } from "../session/session";
import { text } from "../text/en";

interface Config {
  readonly enabled: boolean;
  readonly startURL?: string;
  readonly scopes?: string;
  /** Of the Connection, where it is not github.com. */
  readonly baseURL?: string;
}

export interface Grant {
  readonly token: string;
  readonly login: string;
}

export interface OAuth {
  readonly config: Ref<Config>;
  readonly waiting: Ref<boolean>;
  readonly failure: Ref<string>;
  /** Opens the window. To be called by a click, or the browser blocks it. */
  readonly begin: (granted: (grant: Grant) => void) => void;
  /** What the window says from now on is not listened to. */
  readonly stop: () => void;
}

const OFF: Config = { enabled: false };
const MESSAGE = "kedge-github-oauth";
const LOOK = 500;

/** Connect with GitHub. Whether it is there is the one thing that is asked over REST; any failure means that it is not. */
export function useOAuth(): OAuth {
  const { client, context } = useSession();
  const config = ref<Config>(OFF);
  const waiting = ref(false);
  const failure = ref("");
  let stop: (() => void) | undefined;

  async function load(): Promise<void> {
    try {
      const answer = await fetch(`${BACKEND}/oauth/github/config`, { headers: workspaceHeaders(context.value), signal: client.signal });
      const found = answer.ok ? ((await answer.json()) as Config) : OFF;
      config.value = found.enabled && startOf(found) ? found : OFF;
    } catch {
      config.value = OFF;
    }
  }

  function begin(granted: (grant: Grant) => void): void {
    stop?.();
    failure.value = "";
    const start = startOf(config.value);
    if (!start) return;
    const state = randomId();
    start.searchParams.set("state", state);
    // The real address at once: a page that is written into an empty window makes GitHub see no origin, and refuse.
    const popup = window.open(start, "kedge-github-oauth", "popup,width=720,height=820");
    if (!popup) {
      failure.value = text.connect.blocked;
      return;
    }
    waiting.value = true;
    const look = setInterval(() => {
      if (popup.closed) {
        // The message may be on its way still.
        clearInterval(look);
        setTimeout(() => waiting.value && end(text.connect.closed), LOOK);
      }
    }, LOOK);
    const receive = (event: MessageEvent) => {
      const message = event.data as Readonly<Record<string, unknown>> | null;
      // Any window may post any message: the right one comes from our popup, on our origin, and knows our state.
      if (event.source !== popup || event.origin !== start.origin || message?.type !== MESSAGE) return;
      if (message.state !== state) return;
      if (typeof message.error === "string" && message.error) return end(text.connect.refused(message.error));
      if (typeof message.token !== "string" || !message.token) return end(text.connect.refused(text.common.unknown));
      end("");
      granted({ token: message.token, login: typeof message.login === "string" ? message.login : "" });
    };
    const end = (why: string) => {
      clearInterval(look);
      window.removeEventListener("message", receive);
      waiting.value = false;
      failure.value = why;
      stop = undefined;
    };
    stop = () => end("");
    window.addEventListener("message", receive);
  }

  void load();
  onScopeDispose(() => stop?.());
  return { config, waiting, failure, begin, stop: () => stop?.() };
}

function startOf({ startURL }: Config): URL | undefined {
  try {
    const url = new URL(startURL ?? "", location.href);
    return startURL && (url.protocol === "https:" || url.protocol === "http:") ? url : undefined;
  } catch {
    return undefined;
  }
}
