/**
 * Finds out whether files are opened in the order of their listing: each of three opens was the one that follows another
 * in its directory. Which name follows is told by whoever knows the listing.
 *
 * Pure; bounded by `FOLLOWERS_MAX` names over all directories, the oldest go first.
 */
import type { InodeNumber } from '../base/brand.ts';

const FOLLOWERS_MAX = 10_000;
const IN_A_ROW = 3;

export class ListingSequences {
  /** By directory and name: how many opens in a row lead to this one, if it is opened next. */
  readonly #expected = new Map<string, number>();
  readonly #rows = new Map<string, number>();

  /** @returns whether this open goes on with a sequence */
  opened(directory: InodeNumber, name: string): boolean {
    const key = `${directory}/${name}`;
    const row = (this.#expected.get(key) ?? 0) + 1;
    this.#expected.delete(key);
    this.#remember(this.#rows, key, row);
    return row >= IN_A_ROW;
  }

  /** In the listing `next` comes behind `name`, which was opened. */
  follows(directory: InodeNumber, { name, next }: { readonly name: string; readonly next: string }): void {
    const key = `${directory}/${name}`;
    const row = this.#rows.get(key);
    if (row === undefined) return;
    this.#rows.delete(key);
    this.#remember(this.#expected, `${directory}/${next}`, row);
  }

  #remember(map: Map<string, number>, key: string, row: number): void {
    if (map.size >= FOLLOWERS_MAX) map.delete(map.keys().next().value!);
    map.set(key, row);
  }
}
