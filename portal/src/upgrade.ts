import { onScopeDispose, ref, type Ref } from "vue";
import { ELEMENT, OUTDATED } from "./names";
import { useSession } from "./session/session";

/** A tab that stays open is asked this often, while it is shown. */
const EVERY = 10 * 60_000;

interface Defined {
  readonly version?: string;
  outdated?: boolean;
}

/**
 * Whether this tab runs another version than the one that is served. The hub's page loads our script anew only when somebody comes back
 * to us, and the script then says so. A tab that was left open looks itself when it is shown again, and now and then.
 */
export function useOutdated(): Ref<boolean> {
  const { context, client } = useSession();
  const defined = customElements.get(ELEMENT) as Defined | undefined;
  const outdated = ref(defined?.outdated ?? false);
  const tell = () => (outdated.value = true);

  async function look(): Promise<void> {
    if (document.hidden || outdated.value) return;
    try {
      const base = (context.value.basePath ?? "/ui/providers/code").replace(/\/$/, "");
      const response = await fetch(`${base}/version.txt`, { signal: client.signal, cache: "no-store", credentials: "omit" });
      const served = (await response.text()).trim();
      // Where there is no such file, a page comes in its place.
      if (response.ok && /^[0-9a-f]{16}$/.test(served) && served !== defined?.version) tell();
    } catch {
      // The next look is as good.
    }
  }

  const shown = () => void look();
  const timer = setInterval(shown, EVERY);
  document.addEventListener("visibilitychange", shown);
  window.addEventListener(OUTDATED, tell);
  onScopeDispose(() => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", shown);
    window.removeEventListener(OUTDATED, tell);
  });
  return outdated;
}
