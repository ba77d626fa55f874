/**
 * What is small and waited for, fetched on this thread: for that the way to a worker and back, through its queues, costs
 * more than the GET. One plain attempt; whatever goes wrong is left to the workers with all their retries.
 *
 * A store's access (where, as whom) comes from a worker, which has the store's client; it is asked for anew from time to
 * time, and not used any more when its credentials end. Bounded: `quickGetsMax` under way, each with memory of its own that
 * is used again, unless it is given away. Nothing is written before all bytes are there and verified, and then at once,
 * so that a request that has settled writes no more.
 */
import { isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import type { Clock } from '../base/clock.ts';
import type { QuickReader, StoreAccess } from '../store/object-store.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchServerOptions } from './fetch-server.ts';
import { sinkErrorOf } from './tier-errors.ts';
import type { FillRequest, FillResult, VersionSource } from './tier.ts';

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

interface Range {
  readonly source: VersionSource;
  readonly offset: number;
  readonly length: number;
}

interface OpenAccess {
  readonly access: StoreAccess;
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
    const { openReader, limits, clock } = this.#options;
    const known = this.#stores.get(storeUrl);
    const isSame = known !== undefined && isDeepStrictEqual(known.access, access);
    if (!isSame) known?.reader.close();
    this.#stores.delete(storeUrl);
    if (access === undefined || this.#closed) return;
    this.#stores.set(storeUrl, {
      access,
      reader: isSame ? known.reader : openReader(access, limits.quickGetsMax),
      expiresWallMs: (access.expiresWallMs ?? Number.POSITIVE_INFINITY) - EXPIRY_MARGIN_MS,
      renewMs: clock.nowMs() + limits.accessMs,
    });
  }

  /** A range in its sink. Undefined, at once or later: to be fetched in the ordinary way. @throws TierError sink, the signal's reason */
  fill(
    storeUrl: string,
    request: FillRequest,
    signal: AbortSignal | undefined,
  ): Promise<FillResult | undefined> | undefined {
    const reader = this.#readerOf(storeUrl, request);
    return reader && this.#fill(reader, request, signal);
  }

  /** A range in memory. Undefined, at once or later: to be fetched in the ordinary way. Never fails. */
  read(storeUrl: string, range: Range): Promise<Uint8Array | undefined> | undefined {
    const reader = this.#readerOf(storeUrl, range);
    return reader && this.#read(reader, range);
  }

  close(): void {
    this.#closed = true;
    for (const { reader } of this.#stores.values()) reader.close();
    this.#stores.clear();
  }

  #readerOf(storeUrl: string, { length }: Range): QuickReader | undefined {
    const { clock, askAccess, limits } = this.#options;
    const access = this.#stores.get(storeUrl);
    if (access === undefined || length > limits.quickBytesMax) return undefined;
    if (this.#underWay >= limits.quickGetsMax) return undefined;
    if (clock.nowMs() >= access.renewMs) {
      access.renewMs += limits.accessMs;
      askAccess(storeUrl);
    }
    return clock.wallMs() < access.expiresWallMs ? access.reader : undefined;
  }

  async #fill(
    reader: QuickReader,
    request: FillRequest,
    signal: AbortSignal | undefined,
  ): Promise<FillResult | undefined> {
    const { offset, length } = request;
    const { limits, writeAt } = this.#options;
    const into = this.#free.pop() ?? Buffer.allocUnsafeSlow(limits.quickBytesMax);
    try {
      const answer = this.#get(reader, request, into);
      const sinkFd = await sinkOf(request, answer);
      const isThere = await answer;
      signal?.throwIfAborted();
      if (!isThere) return undefined;
      const bytes = into.subarray(0, length);
      writeAt(sinkFd, bytes, offset);
      return { blockChecksums: [crc32(bytes)] };
    } catch (error) {
      throw signal?.aborted ? error : sinkErrorOf(error);
    } finally {
      this.#free.push(into);
    }
  }

  async #read(reader: QuickReader, range: Range): Promise<Uint8Array | undefined> {
    const into = Buffer.allocUnsafeSlow(range.length);
    return (await this.#get(reader, range, into)) ? into : undefined;
  }

  async #get(reader: QuickReader, { source, offset, length }: Range, into: Buffer): Promise<boolean> {
    const { objectKey: key, entityTag, objectVersion: versionId, sizeBytes } = source;
    this.#underWay++;
    try {
      const isThere = await reader.read({ key, entityTag, versionId, sizeBytes, offset, length, into });
      if (isThere) {
        const { tierRequests, tierBytes } = this.#options.metrics;
        tierRequests.inc({ tier: 'store', result: 'ok' });
        tierBytes.inc({ tier: 'store', direction: 'in' }, length);
      }
      return isThere;
    } finally {
      this.#underWay--;
    }
  }
}

/** Opened while the answer is on its way; a failure is told only after that, for its memory is in use until then. */
async function sinkOf(request: FillRequest, answer: Promise<unknown>): Promise<number> {
  try {
    return request.sinkFd;
  } catch (error) {
    await answer;
    throw error;
  }
}
