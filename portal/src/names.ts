export const ELEMENT = "kedge-provider-code";
export const TILE = "kedge-dashboard-tile-code";
/** Dispatched on `window` by a newer script than the one that has defined the elements. */
export const OUTDATED = "kedge-provider-code-outdated";
