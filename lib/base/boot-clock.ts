/**
 * The clock of leases: like `systemClock`, but it goes on while the host is suspended, so that a lease cannot seem younger
 * than it is. A call takes well under a microsecond. Timers do not count suspension: whoever waits looks at the clock.
 */
import koffi from 'koffi';
import { type Clock, systemClock } from './clock.ts';

/** From include/uapi/linux/time.h. */
const CLOCK_BOOTTIME = 7;

/** Elsewhere than on Linux it is `systemClock`. */
export function bootClock(): Clock {
  if (process.platform !== 'linux') return systemClock;
  const clockGettime = koffi.load(null).func('int clock_gettime(int clock, void *time)') as (
    clock: number,
    time: Uint8Array,
  ) => number;
  // `struct timespec` of a 64-bit host: seconds and nanoseconds, 8 bytes each.
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  return {
    ...systemClock,
    nowMs() {
      if (clockGettime(CLOCK_BOOTTIME, bytes) !== 0) throw new Error('clock_gettime failed');
      const seconds = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
      return seconds * 1000 + view.getUint32(8, true) / 1_000_000;
    },
  };
}
