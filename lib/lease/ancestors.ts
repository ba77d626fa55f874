/** Where a directory is: itself first, then those above it, the root last. */
import type { InodeNumber } from '../base/brand.ts';

export type Ancestors = readonly InodeNumber[];

/** The place of a directory after one at or above it has moved. */
export function rebase(ancestors: Ancestors, moved: Ancestors): Ancestors {
  const at = ancestors.indexOf(moved[0] as InodeNumber);
  return at === -1 ? ancestors : [...ancestors.slice(0, at), ...moved];
}
