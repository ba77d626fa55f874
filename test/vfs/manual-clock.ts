/** A clock that a test moves. */
import type { Clock } from '../../lib/base/clock.ts';

export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #due = new Set<{ atMs: number; run: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, run };
    this.#due.add(timer);
    return () => this.#due.delete(timer);
  }

  every(periodMs: number, run: () => void): () => void {
    let cancel = (): void => undefined;
    const again = (): void => {
      cancel = this.after(periodMs, () => {
        again();
        run();
      });
    };
    again();
    return () => cancel();
  }

  /** Timers that wait. */
  get waiting(): number {
    return this.#due.size;
  }

  advance(byMs: number): void {
    const until = this.#nowMs + byMs;
    for (;;) {
      const [next] = [...this.#due].filter(({ atMs }) => atMs <= until).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#due.delete(next);
      this.#nowMs = next.atMs;
      next.run();
    }
    this.#nowMs = until;
  }
}
