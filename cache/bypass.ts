/**
 * Reads that go around NVMe: small ranges of huge files, blobs that were not let in, and everything while the
 * disk is not to be trusted.
 *
 * Exact ranges for random readers. A sequential reader gets its bytes from windows that are fetched ahead of it
 * and kept in memory, a bounded number of them, so that bypassing does not mean one request for each read.
 */
import type { Tier, VersionSource } from '../lib/tiers/tier.ts';
import type { Metrics } from '../lib/telemetry/metrics.ts';
import { CacheError } from './block-cache.ts';
import type { Counters } from './counters.ts';
import { BYPASS_READS_MAX, BYPASS_WINDOW_BYTES, BYPASS_WINDOWS_MAX } from './limits.ts';
import { Slots } from './slots.ts';

interface Window {
  readonly version: string;
  readonly start: number;
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
}

export interface BypassRange {
  readonly offset: number;
  readonly length: number;
  /** It continues where this reader stopped before. */
  readonly sequential: boolean;
  readonly signal: AbortSignal | undefined;
}

export class Bypass {
  readonly #tier: Tier;
  readonly #counters: Counters;
  readonly #slots: Slots;
  /** Last used last. */
  readonly #windows = new Set<Window>();
  readonly #closing = new AbortController();

  constructor(options: { readonly tier: Tier; readonly counters: Counters; readonly metrics: Metrics }) {
    this.#tier = options.tier;
    this.#counters = options.counters;
    this.#slots = new Slots({ limit: BYPASS_READS_MAX, name: 'cache.bypassReads', metrics: options.metrics });
  }

  /** @throws TierError, the signal's reason */
  async read(source: VersionSource, range: BypassRange): Promise<Uint8Array> {
    this.#counters.bypass();
    const { offset, length, signal } = range;
    const window =
      this.#windowOf(source, offset) ?? (range.sequential ? this.#open(source, offset) : undefined);
    if (window === undefined) return this.#fetch(source, { offset, length, signal });
    this.#windows.delete(window);
    this.#windows.add(window);
    const bytes = await untilAborted(window.bytes, signal);
    const from = offset - window.start;
    const head = bytes.subarray(from, from + length);
    if (head.length === length) return head;
    const rest = await this.read(source, {
      offset: offset + head.length,
      length: length - head.length,
      sequential: true,
      signal,
    });
    return Buffer.concat([head, rest]);
  }

  close(): void {
    this.#closing.abort(new CacheError('closed', 'the cache is shutting down'));
    this.#windows.clear();
  }

  #windowOf(source: VersionSource, offset: number): Window | undefined {
    for (const window of this.#windows) {
      if (window.version === source.version && window.start <= offset && offset < window.end) return window;
    }
    return undefined;
  }

  #open(source: VersionSource, offset: number): Window {
    const length = Math.min(BYPASS_WINDOW_BYTES, source.sizeBytes - offset);
    const bytes = this.#fetch(source, { offset, length, signal: undefined });
    const window: Window = { version: source.version, start: offset, end: offset + length, bytes };
    bytes.catch(() => this.#windows.delete(window));
    this.#windows.add(window);
    if (this.#windows.size > BYPASS_WINDOWS_MAX) {
      for (const oldest of this.#windows) {
        this.#windows.delete(oldest);
        break;
      }
    }
    return window;
  }

  async #fetch(
    source: VersionSource,
    range: { offset: number; length: number; signal: AbortSignal | undefined },
  ): Promise<Uint8Array> {
    const signal =
      range.signal === undefined
        ? this.#closing.signal
        : AbortSignal.any([range.signal, this.#closing.signal]);
    await this.#slots.take(signal);
    try {
      const { offset, length } = range;
      const bytes = await this.#tier.read({ source, offset, length, priority: 'demand' }, { signal });
      this.#counters.fetched(bytes.length);
      return bytes;
    } finally {
      this.#slots.give();
    }
  }
}

/** What the promise gives, unless the signal comes first. The promise goes on. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
