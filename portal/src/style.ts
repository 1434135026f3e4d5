import css from "./style.css?inline";

const ID = "kedge-provider-code-css";

/** Adds the stylesheet to the page, once. A newer script replaces the text. */
export function injectStyles(): void {
  const found = document.getElementById(ID);
  const style = found ?? document.createElement("style");
  style.id = ID;
  style.textContent = css;
  if (!found) document.head.append(style);
}
