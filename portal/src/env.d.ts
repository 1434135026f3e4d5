/// <reference types="vite/client" />

/** Hash of what the bundle was built from. */
declare const __BUNDLE_VERSION__: string;
