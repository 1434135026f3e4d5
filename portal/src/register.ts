import { CodeElement, CodeTileElement } from "./element";
import { ELEMENT, OUTDATED, TILE } from "./names";
import { injectStyles } from "./style";

/**
 * Defines the elements, once however often the script runs. An element cannot be defined twice, so after an upgrade the tab goes on
 * with the old one: a script of another version tells it so.
 */
export function register(version: string = __BUNDLE_VERSION__): void {
  injectStyles();
  const defined = customElements.get(ELEMENT) as (CustomElementConstructor & { version?: string; outdated?: boolean }) | undefined;
  if (defined) {
    if (defined.version !== version) {
      defined.outdated = true;
      window.dispatchEvent(new Event(OUTDATED));
    }
    return;
  }
  CodeElement.version = version;
  customElements.define(ELEMENT, CodeElement);
  if (!customElements.get(TILE)) customElements.define(TILE, CodeTileElement);
}
