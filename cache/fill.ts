/**
 * One request to a tier that is bringing a run of blocks, and everybody who waits for parts of it.
 *
 * A waiter is served as soon as the bytes that it needs are there, long before the run is complete; who takes the lead,
 * the first bytes of the run, does not even wait for them to be in the blob. When
 * the last waiter gives up and nobody was served, the request itself is given up; once somebody was, it goes on.
 * Settled exactly once, after which it wakes everybody.
 */
import type { Clock } from '../lib/base/clock.ts';
import { TierError } from '../lib/tiers/tier.ts';
import { FILL_WAIT_MS } from './limits.ts';

interface Waiter {
  readonly upTo: number;
  readonly takesLead: boolean;
  /** With the lead, or once the bytes are in the blob. */
  readonly resolve: (lead?: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

/** To wait for the end of a fill instead of for a place in it. */
export const WHOLE_FILL = Number.POSITIVE_INFINITY;

export class Fill {
  readonly firstBlock: number;
  readonly endBlock: number;
  readonly #abort = new AbortController();
  readonly #waiters = new Set<Waiter>();
  readonly #settled = Promise.withResolvers<void>();
  /** Of the first block. */
  readonly offset: number;
  #filledTo: number;
  /** Until the blob has as much. */
  #lead: Uint8Array | undefined;
  #served = false;
  #outcome: { readonly error: unknown } | 'good' | undefined;

  /** @param run the blocks [first, end), the first of which begins at `offset` */
  constructor(run: { readonly first: number; readonly end: number; readonly offset: number }) {
    this.firstBlock = run.first;
    this.endBlock = run.end;
    this.offset = this.#filledTo = run.offset;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Resolves at the end, good or bad. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  /** Everything of the run below this offset is readable in the blob. */
  get filledTo(): number {
    return this.#filledTo;
  }

  progress(filledTo: number): void {
    if (filledTo <= this.#filledTo) return;
    this.#filledTo = filledTo;
    if (filledTo >= this.#leadEnd) this.#lead = undefined;
    for (const waiter of this.#waiters) if (waiter.upTo <= filledTo) waiter.resolve();
  }

  /** The first bytes of the run are here, but not in the blob. */
  lead(bytes: Uint8Array): void {
    if (this.#outcome !== undefined || this.#filledTo >= this.offset + bytes.length) return;
    this.#lead = bytes;
    for (const waiter of this.#waiters) {
      if (waiter.takesLead && waiter.upTo <= this.#leadEnd) waiter.resolve(bytes);
    }
  }

  get #leadEnd(): number {
    return this.offset + (this.#lead?.length ?? 0);
  }

  settle(outcome: { readonly error: unknown } | 'good'): void {
    this.#outcome ??= outcome;
    this.#lead = undefined;
    this.#settled.resolve();
    for (const waiter of this.#waiters) {
      if (outcome === 'good') waiter.resolve();
      else waiter.reject(outcome.error);
    }
  }

  abort(reason: Error): void {
    this.#abort.abort(reason);
  }

  /**
   * Resolves when everything below `upTo` is readable in the blob; or, for who takes it, with the bytes from the run's
   * beginning to beyond `upTo`. Gives up after `stallMs` without progress.
   * @throws what the tier failed with; the signal's reason; TierError timeout
   */
  async wait(
    upTo: number,
    options: {
      readonly clock: Clock;
      readonly signal?: AbortSignal | undefined;
      readonly stallMs?: number;
      readonly takesLead?: boolean;
    },
  ): Promise<Uint8Array | undefined> {
    const { clock, signal, stallMs = FILL_WAIT_MS, takesLead = false } = options;
    if (this.#filledTo >= upTo || this.#outcome === 'good') return undefined;
    if (this.#outcome !== undefined) throw this.#outcome.error;
    if (takesLead && this.#leadEnd >= upTo) return this.#lead;
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    const waiter: Waiter = { upTo, takesLead, resolve, reject };
    this.#waiters.add(waiter);
    const giveUp = (reason: unknown): void => {
      this.#waiters.delete(waiter);
      if (this.#waiters.size === 0 && !this.#served) this.#abort.abort(reason);
      reject(reason);
    };
    const onAbort = (): void => giveUp(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    let seen = this.#filledTo;
    let stopTimer = (): void => undefined;
    const watch = (): void => {
      stopTimer = clock.after(stallMs, () => {
        if (this.#filledTo === seen) return giveUp(new TierError('timeout', `no bytes within ${stallMs} ms`));
        seen = this.#filledTo;
        watch();
      });
    };
    watch();
    try {
      const lead = await promise;
      this.#served = true;
      return lead;
    } finally {
      this.#waiters.delete(waiter);
      stopTimer();
      signal?.removeEventListener('abort', onAbort);
    }
  }
}
