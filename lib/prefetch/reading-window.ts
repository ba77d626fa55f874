/**
 * Where the reader of a manifest is, and so which of its files are next. Several processes of one reader take their files
 * out of order, so what they passed over is believed to be skipped only when the reader is `SLACK` files beyond it.
 *
 * Pure; bounded by what was added and not passed.
 */
const SLACK = 64;

export class ReadingWindow {
  /** Files that may be ordered beyond the reader; undefined: all. */
  readonly ahead: number | undefined;
  readonly #placeOf = new Map<string, number>();
  #added = 0;
  /** The place behind the furthest file that was opened. */
  #reader = 0;

  constructor(ahead: number | undefined) {
    this.ahead = ahead;
  }

  get hasRoom(): boolean {
    return this.ahead === undefined || this.#added < this.#reader + this.ahead;
  }

  /** The next file of the manifest is looked at. */
  add(path: string): void {
    this.#placeOf.set(path, this.#added++);
  }

  /** @returns paths that the reader has left behind; undefined if the file is none of these */
  opened(path: string): readonly string[] | undefined {
    const place = this.#placeOf.get(path);
    if (place === undefined) return undefined;
    this.#placeOf.delete(path);
    this.#reader = Math.max(this.#reader, place + 1);
    const passed: string[] = [];
    // In the order of the manifest.
    for (const [other, at] of this.#placeOf) {
      if (at >= this.#reader - SLACK) break;
      passed.push(other);
      this.#placeOf.delete(other);
    }
    return passed;
  }
}
