/**
 * Names for jobs, which are in no hurry: a question that the origin cannot be asked is asked again until it can, the job is
 * cancelled, or a day has passed.
 */
import { type Clock, sleep } from '../base/clock.ts';
import { NamespaceError } from '../namespace/namespace.ts';
import type { Names } from './walk.ts';

const AGAIN_MS = 5_000;
const PATIENCE_MS = 24 * 3_600_000;

export function patientNames(names: Names, clock: Clock): Names {
  const patiently = async <T>(ask: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
    const untilMs = clock.nowMs() + PATIENCE_MS;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!isAway(error) || clock.nowMs() >= untilMs) throw error;
      }
      await sleep(clock, AGAIN_MS, signal);
    }
  };
  return {
    knownName: (parent, name) => names.knownName(parent, name),
    isListingHeld: (directory) => names.isListingHeld(directory),
    lookup: (parent, name, options) => patiently(() => names.lookup(parent, name, options), options?.signal),
    attributes: (inode, options) => patiently(() => names.attributes(inode, options), options?.signal),
    list: (directory, page, options) =>
      patiently(() => names.list(directory, page, options), options?.signal),
  };
}

function isAway(error: unknown): boolean {
  return error instanceof NamespaceError && (error.code === 'unavailable' || error.code === 'timeout');
}
