/**
 * How changes of a file are noticed that nobody tells us of: by size and times. Each write moves both times to the
 * present tick of the kernel's clock, so stamps that are equal prove that nothing was written between them, unless
 * both times of the first lay within the tick in which it was taken.
 */
import type { FileStamp } from '../staging/staging.ts';
import { CLOCK_TICK_MS } from './limits.ts';

const NS_PER_MS = 1_000_000;

export function isSameStamp(one: FileStamp, other: FileStamp): boolean {
  return (
    one.sizeBytes === other.sizeBytes &&
    one.modifiedNs === other.modifiedNs &&
    one.changedNs === other.changedNs
  );
}

/** Whether every write after that wall time, at which the stamp was taken, will have made another stamp. */
export function isSettledAt(stamp: FileStamp, wallMs: number): boolean {
  return wallMs > settledFromMs(stamp);
}

/** From this wall time on the stamp is settled. */
export function settledFromMs({ modifiedNs, changedNs }: FileStamp): number {
  const earlier = modifiedNs < changedNs ? modifiedNs : changedNs;
  return Number(earlier) / NS_PER_MS + CLOCK_TICK_MS;
}

export function stampOf({ sizeBytes, modifiedNs, changedNs }: FileStamp): FileStamp {
  return { sizeBytes, modifiedNs, changedNs };
}
