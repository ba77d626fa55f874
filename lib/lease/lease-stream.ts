/** One connection of a satellite, as the origin counts it. */
import type { LeaseSession, StreamId } from './lease-session.ts';

/** Messages of one stream that nobody asked for, a second and at once: far more than a satellite has reason to send. */
export const UNASKED_PER_S = 200;
const UNASKED_AT_ONCE = 2_000;

export class LeaseStream {
  readonly id: StreamId;
  readonly tenant: string;
  readonly address: string;
  readonly openedMs: number;
  /** Since its hello. */
  session: LeaseSession | undefined;
  #allowance = UNASKED_AT_ONCE;
  #allowanceMs: number;

  constructor(options: {
    readonly id: StreamId;
    readonly tenant: string;
    readonly address: string;
    readonly openedMs: number;
  }) {
    this.id = options.id;
    this.tenant = options.tenant;
    this.address = options.address;
    this.openedMs = this.#allowanceMs = options.openedMs;
  }

  /** Counts an unasked message. @returns whether it is within the bound */
  spend(nowMs: number): boolean {
    const refill = ((nowMs - this.#allowanceMs) / 1_000) * UNASKED_PER_S;
    this.#allowance = Math.min(UNASKED_AT_ONCE, this.#allowance + refill) - 1;
    this.#allowanceMs = nowMs;
    return this.#allowance >= 0;
  }
}
