/**
 * A budget of bytes per second, kept over any second. Pure: whoever uses it brings the time.
 *
 * Grants are spaced by what they take at the rate, without credit for idle time; and what was granted and has not
 * arrived is bounded, because late answers could otherwise arrive together. So no second sees more than the rate, plus
 * one grant, plus what was under way.
 */

/** What may be under way, as a part of a second at the rate. */
const UNDER_WAY_SECONDS = 0.05;

export class Pacer {
  /** Undefined: no budget. */
  bytesPerSecond: number | undefined;
  #nextMs = Number.NEGATIVE_INFINITY;
  #underWayBytes = 0;

  constructor(bytesPerSecond: number | undefined) {
    this.bytesPerSecond = bytesPerSecond;
  }

  /** When something may be granted; undefined: not before something has arrived. */
  nextMs(nowMs: number): number | undefined {
    if (this.bytesPerSecond === undefined) return nowMs;
    const room = this.bytesPerSecond * UNDER_WAY_SECONDS;
    if (this.#underWayBytes > 0 && this.#underWayBytes >= room) return undefined;
    return Math.max(nowMs, this.#nextMs);
  }

  grant(bytes: number, nowMs: number): void {
    this.#underWayBytes += bytes;
    if (this.bytesPerSecond === undefined) return;
    this.#nextMs = Math.max(nowMs, this.#nextMs) + (1_000 * bytes) / this.bytesPerSecond;
  }

  arrived(bytes: number): void {
    this.#underWayBytes -= bytes;
  }
}
