/**
 * Small whole objects that somebody waits for, fetched on this thread: for these the way to a worker and back, through its
 * queues, costs more than the GET. One plain attempt; whatever goes wrong is left to the workers with all their retries.
 *
 * A store's access (where, as whom) comes from a worker, which has the store's client; it is asked for anew from time to
 * time, and not used any more when its credentials end. Bounded: `quickGetsMax` under way, each with memory of its own that
 * is used again. Nothing is written before all bytes are there and verified, and then at once, so that a request that
 * has settled writes no more.
 */
import { crc32 } from 'node:zlib';
import type { Clock } from '../base/clock.ts';
import type { QuickReader, StoreAccess } from '../store/object-store.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchServerOptions } from './fetch-server.ts';
import { sinkErrorOf } from './tier-errors.ts';
import type { FillRequest, FillResult } from './tier.ts';

/** What this needs from outside. */
export interface QuickMeans {
  readonly openReader: (access: StoreAccess, connectionsMax: number) => QuickReader;
  readonly writeAt: FetchServerOptions['writeAt'];
}

export interface QuickFetchOptions extends QuickMeans {
  readonly askAccess: (storeUrl: string) => void;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly limits: FetchLimits;
}

/** Credentials are not used any more so long before they end. */
const EXPIRY_MARGIN_MS = 30_000;

interface OpenAccess {
  readonly reader: QuickReader;
  readonly expiresWallMs: number;
  /** From then on another one is asked for. */
  renewMs: number;
}

export class QuickFetch {
  readonly #options: QuickFetchOptions;
  readonly #stores = new Map<string, OpenAccess>();
  readonly #free: Buffer[] = [];
  #underWay = 0;
  #closed = false;

  constructor(options: QuickFetchOptions) {
    this.#options = options;
  }

  /** A worker told of a store. */
  take(storeUrl: string, access: StoreAccess | undefined): void {
    this.#stores.get(storeUrl)?.reader.close();
    this.#stores.delete(storeUrl);
    if (access === undefined || this.#closed) return;
    const { openReader, limits, clock } = this.#options;
    this.#stores.set(storeUrl, {
      reader: openReader(access, limits.quickGetsMax),
      expiresWallMs: (access.expiresWallMs ?? Number.POSITIVE_INFINITY) - EXPIRY_MARGIN_MS,
      renewMs: clock.nowMs() + limits.accessMs,
    });
  }

  /** Undefined, at once or later: to be fetched in the ordinary way. @throws TierError sink, the signal's reason */
  fill(
    storeUrl: string,
    request: FillRequest,
    signal: AbortSignal | undefined,
  ): Promise<FillResult | undefined> | undefined {
    const reader = this.#readerOf(storeUrl);
    if (reader === undefined || this.#underWay >= this.#options.limits.quickGetsMax) return undefined;
    return this.#fill(reader, request, signal);
  }

  close(): void {
    this.#closed = true;
    for (const { reader } of this.#stores.values()) reader.close();
    this.#stores.clear();
  }

  #readerOf(storeUrl: string): QuickReader | undefined {
    const access = this.#stores.get(storeUrl);
    if (access === undefined) return undefined;
    const { clock, askAccess, limits } = this.#options;
    if (clock.nowMs() >= access.renewMs) {
      access.renewMs += limits.accessMs;
      askAccess(storeUrl);
    }
    return clock.wallMs() < access.expiresWallMs ? access.reader : undefined;
  }

  async #fill(
    reader: QuickReader,
    { source, offset, length, sinkFd }: FillRequest,
    signal: AbortSignal | undefined,
  ): Promise<FillResult | undefined> {
    const { limits, metrics, writeAt } = this.#options;
    const into = this.#free.pop() ?? Buffer.allocUnsafeSlow(limits.quickBytesMax);
    this.#underWay++;
    try {
      const { objectKey: key, entityTag, objectVersion: versionId, sizeBytes } = source;
      const isThere = await reader.read({ key, entityTag, versionId, sizeBytes, offset, length, into });
      signal?.throwIfAborted();
      if (!isThere) return undefined;
      const bytes = into.subarray(0, length);
      try {
        writeAt(sinkFd, bytes, offset);
      } catch (error) {
        throw sinkErrorOf(error);
      }
      metrics.tierRequests.inc({ tier: 'store', result: 'ok' });
      metrics.tierBytes.inc({ tier: 'store', direction: 'in' }, length);
      return { blockChecksums: [crc32(bytes)] };
    } finally {
      this.#underWay--;
      this.#free.push(into);
    }
  }
}
