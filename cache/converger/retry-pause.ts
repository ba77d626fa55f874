/** How long a failure is given to pass: twice as long each time, up to a bound, and never the same for all. */
import type { Prng } from '../../lib/base/prng.ts';
import { RETRY_MS, RETRY_MS_MAX } from './limits.ts';

/** @param failures in a row */
export function retryPauseMs(failures: number, prng: Prng): number {
  const ceilingMs = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.max(0, failures - 1));
  return ceilingMs * (0.5 + prng.next() / 2);
}
