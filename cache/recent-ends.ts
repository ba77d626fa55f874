/** Remembers where the last reads of one handle ended, so that several interleaved sequential readers are still seen as such. */
import { MIB } from '../lib/base/limits.ts';

const ENDS_MAX = 8;
/** The kernel reads ahead out of order by as much. */
const GAP_BYTES_MAX = 1 * MIB;

export class RecentEnds {
  readonly #ends: number[] = [];

  /** Notes a read; true if it continues an earlier one. */
  note(offset: number, end: number): boolean {
    const at = this.#ends.findIndex(
      (known) => offset >= known - GAP_BYTES_MAX && offset <= known + GAP_BYTES_MAX,
    );
    if (at >= 0) this.#ends.splice(at, 1);
    else if (this.#ends.length === ENDS_MAX) this.#ends.shift();
    this.#ends.push(end);
    return at >= 0;
  }
}
