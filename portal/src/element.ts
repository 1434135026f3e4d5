import { createApp, h, shallowRef, type App as VueApp, type Component, type ShallowRef } from "vue";
import App from "./App.vue";
import { createClient } from "./api/client";
import type { KedgeContext } from "./context";
import DashboardTile from "./DashboardTile.vue";
import { pathOf } from "./routes";
import { hrefOf, SESSION, type Session } from "./session/session";
import { showToast } from "./session/toasts";

/** A Vue application in light DOM, for one workspace at a time. The hub's classes do not reach into a shadow root. */
abstract class HostedElement extends HTMLElement {
  protected abstract readonly root: Component;
  #context: ShallowRef<KedgeContext> | undefined;
  #app: VueApp | undefined;
  #lifetime = new AbortController();
  /** Messages of this workspace that may still be seen. */
  #toasts: readonly HTMLElement[] = [];

  constructor() {
    super();
    // The property may have been set before the script that defines the element had run.
    if (Object.hasOwn(this, "kedgeContext")) {
      const early = Reflect.get(this, "kedgeContext") as KedgeContext;
      Reflect.deleteProperty(this, "kedgeContext");
      this.kedgeContext = early;
    }
  }

  get kedgeContext(): KedgeContext | undefined {
    return this.#context?.value;
  }

  /** The hub sets it after it has appended the element, and again, a new object, on every change. */
  set kedgeContext(context: KedgeContext | undefined) {
    if (!context) {
      this.#leave();
      return;
    }
    const before = this.#context?.value;
    if (this.#context && before?.tenant === context.tenant && before?.user?.userId === context.user?.userId) {
      this.#context.value = context;
      return;
    }
    // Another workspace, or another user. Nothing that was asked before may be shown now.
    this.#leave();
    this.#context = shallowRef(context);
    if (this.isConnected) this.#mount();
  }

  connectedCallback(): void {
    this.#mount();
  }

  disconnectedCallback(): void {
    this.#unmount();
  }

  #mount(): void {
    const context = this.#context;
    if (!context || this.#app) return;
    this.#lifetime = new AbortController();
    const { signal } = this.#lifetime;
    const session: Session = {
      context,
      client: createClient(() => context.value, signal),
      href: (route) => hrefOf(context.value, route),
      navigate: (route) => {
        this.dispatchEvent(new CustomEvent("kedge-navigate", { bubbles: true, detail: { path: pathOf(route) } }));
      },
      notify: (message, tone) => {
        if (!signal.aborted) this.#toasts = [...this.#toasts.filter((toast) => toast.isConnected), showToast(message, tone)];
      },
    };
    const { root } = this;
    this.#app = createApp({ render: () => h(root) });
    this.#app.provide(SESSION, session);
    this.#app.mount(this);
  }

  #unmount(): void {
    this.#lifetime.abort();
    this.#app?.unmount();
    this.#app = undefined;
    for (const toast of this.#toasts) toast.remove();
    this.#toasts = [];
  }

  #leave(): void {
    this.#unmount();
    this.#context = undefined;
  }
}

export class CodeElement extends HostedElement {
  static version = "";
  /** Whether a newer script was loaded into this tab. */
  static outdated = false;
  protected readonly root = App;
}

export class CodeTileElement extends HostedElement {
  protected readonly root = DashboardTile;
}
