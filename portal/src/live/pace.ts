/** Milliseconds between two looks at what is shown, where no subscription tells of changes. */
export interface Look {
  /** Something is being worked on, so it changes soon. */
  readonly busy: boolean;
  /** A subscription is open. The look is then only in case an event was lost. */
  readonly subscribed: boolean;
  /** How many looks in a row have shown no change, and nobody has touched the page. */
  readonly quiet: number;
}

const BUSY = 2_000;
const CALM = 10_000;
const SUBSCRIBED = 60_000;
const LONGEST = 120_000;

export function pauseBefore({ busy, subscribed, quiet }: Look): number {
  if (subscribed) return SUBSCRIBED;
  return Math.min(LONGEST, (busy ? BUSY : CALM) * 1.5 ** Math.max(0, quiet - (busy ? 10 : 2)));
}
