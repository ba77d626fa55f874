/**
 * When something at or below a directory changed last, for directories where that is not long ago. Bounded: what is
 * forgotten for want of room makes every directory that is not remembered count as changed then.
 */
import type { InodeNumber } from '../base/brand.ts';

export class RecentChanges {
  readonly #quietMs: number;
  readonly #directoriesMax: number;
  /** The oldest first. */
  readonly #changedMs = new Map<InodeNumber, number>();
  #forgottenMs = -Infinity;

  constructor(options: { readonly quietMs: number; readonly directoriesMax: number }) {
    this.#quietMs = options.quietMs;
    this.#directoriesMax = options.directoriesMax;
  }

  note(ancestors: readonly InodeNumber[], nowMs: number): void {
    for (const directory of ancestors) {
      this.#changedMs.delete(directory);
      this.#changedMs.set(directory, nowMs);
    }
    for (const [directory, ms] of this.#changedMs) {
      if (this.#changedMs.size <= this.#directoriesMax && ms > nowMs - this.#quietMs) return;
      this.#forgottenMs = ms;
      this.#changedMs.delete(directory);
    }
  }

  /** The highest of a directory and those above it below which nothing has changed for long enough. */
  topmostQuiet(ancestors: readonly InodeNumber[], nowMs: number): InodeNumber | undefined {
    return ancestors.findLast(
      (directory) => (this.#changedMs.get(directory) ?? this.#forgottenMs) + this.#quietMs <= nowMs,
    );
  }
}
