import type { Manifest, ToolCall } from "../export/manifests";

/** What the end of every form shows. */
export interface Foot {
  /** Words of the main button, before and while it works. */
  readonly submit: string;
  readonly busy: string;
  readonly running: boolean;
  /** Why the last try failed. Empty: it did not. */
  readonly failure: string;
  readonly disabled?: boolean;
  readonly danger?: boolean;
  /** Words of the button that closes. Absent: Cancel. */
  readonly cancel?: string;
  /** See CopyAs. */
  readonly manifests?: Manifests;
  readonly call?: ToolCall;
  readonly noCall?: string;
}

/** The object itself, and those that are made with it. */
export type Manifests = readonly [Manifest, ...Manifest[]];
