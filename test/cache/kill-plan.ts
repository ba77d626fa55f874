/** What `kill.test.ts` and the process that it kills agree on. */
import { KIB } from '../../lib/base/limits.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import { sourceOf } from './fake-tier.ts';

export const KILL_BLOCK = 64 * KIB;
export const KILL_FILES = 60;
export const KILL_CAPACITY = 160 * KILL_BLOCK;

export function killSource(number: number): VersionSource {
  return sourceOf(number, 1 + ((number * 48_271 * 37) % (7 * KILL_BLOCK)));
}
