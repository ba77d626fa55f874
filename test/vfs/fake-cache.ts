/**
 * A cache in memory over `FakeNamespace`'s object store. Keeps presence by block, hands out made-up descriptors, records
 * every fill, and can be held (nothing arrives until released), in bypass (fills decline), or without room.
 */
import type { VersionId } from '../../lib/base/brand.ts';
import type {
  BlockCache,
  CachedVersion,
  CacheHandle,
  CacheStat,
  EvictReport,
  OpenVersion,
  VerifyReport,
} from '../../cache/block-cache.ts';
import { TierError, type FetchPriority, type VersionSource } from '../../lib/tiers/tier.ts';
import { abortable } from './fake-namespace.ts';

export interface FakeFill {
  readonly version: VersionId;
  readonly offset: number;
  readonly length: number;
  readonly priority: FetchPriority;
  readonly signal: AbortSignal | undefined;
}

interface Blob {
  source: VersionSource;
  readonly present: Set<number>;
  fd: number | undefined;
  handles: number;
}

export class FakeCache implements BlockCache {
  readonly fills: FakeFill[] = [];
  readonly reads: { readonly version: VersionId; readonly offset: number; readonly length: number }[] = [];
  openHandles = 0;
  /** Fills decline; reads go past the cache. */
  bypass = false;
  /** What every fill fails with. */
  fillFailure: Error | undefined;
  /** Complete blobs are not verified yet: no descriptors. */
  unverified = false;
  readonly #bytesOf: (version: VersionId) => Uint8Array | undefined;
  readonly #blockBytes: number;
  readonly #blobs = new Map<VersionId, Blob>();
  #gate: PromiseWithResolvers<void> | undefined;
  #lastFd = 1000;

  constructor(options: {
    readonly bytesOf: (version: VersionId) => Uint8Array | undefined;
    readonly blockBytes?: number;
  }) {
    this.#bytesOf = options.bytesOf;
    this.#blockBytes = options.blockBytes ?? 1024;
  }

  /** Nothing arrives from the store until `releaseFetches`. */
  holdFetches(): void {
    this.#gate ??= Promise.withResolvers();
  }

  releaseFetches(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  open({ source }: OpenVersion): CacheHandle {
    let blob = this.#blobs.get(source.version);
    if (blob === undefined) {
      blob = { source, present: new Set(), fd: undefined, handles: 0 };
      this.#blobs.set(source.version, blob);
    }
    blob.source = source;
    blob.handles += 1;
    this.openHandles += 1;
    return this.#handle(blob);
  }

  keyOf(version: VersionId): string | undefined {
    return this.#blobs.get(version)?.source.objectKey;
  }

  /** A block of this version was found bad: the blob is replaced by an empty one. */
  drop(version: VersionId): void {
    this.#blobs.delete(version);
  }

  complete(version: VersionId): void {
    const blob = this.#blobs.get(version);
    if (blob !== undefined)
      for (const block of this.#blocks(0, blob.source.sizeBytes)) blob.present.add(block);
  }

  #handle(blob: Blob): CacheHandle {
    const { source } = blob;
    const { version, sizeBytes } = source;
    let closed = false;
    const cachedBytes = (): number => {
      let bytes = 0;
      for (const block of blob.present) {
        bytes += Math.min(this.#blockBytes, sizeBytes - block * this.#blockBytes);
      }
      return bytes;
    };
    return {
      source,
      get cachedBytes() {
        return cachedBytes();
      },
      read: async (offset, length, options) => {
        if (closed) throw new Error('read of a closed cache handle');
        this.reads.push({ version, offset, length });
        const missing = this.#blocks(offset, length).filter((block) => !blob.present.has(block));
        if (missing.length > 0) {
          const bytes = await this.#fetch(version, options?.signal);
          if (!this.bypass) for (const block of missing) blob.present.add(block);
          return bytes.subarray(offset, Math.min(offset + length, sizeBytes));
        }
        const bytes = this.#bytesOf(version);
        if (bytes === undefined) throw new Error('the fake keeps no bytes of lost versions');
        return bytes.subarray(offset, Math.min(offset + length, sizeBytes));
      },
      fill: async (offset, length, { priority, signal }) => {
        if (closed) throw new Error('fill of a closed cache handle');
        this.fills.push({ version, offset, length, priority, signal });
        if (this.fillFailure !== undefined) throw this.fillFailure;
        const missing = this.#blocks(offset, length).filter((block) => !blob.present.has(block));
        if (missing.length === 0 || this.bypass) return;
        await this.#fetch(version, signal);
        for (const block of missing) blob.present.add(block);
      },
      backingFd: () => {
        if (closed) throw new Error('backingFd of a closed cache handle');
        if (this.#blobs.get(version) !== blob || this.unverified || cachedBytes() < sizeBytes)
          return undefined;
        blob.fd ??= ++this.#lastFd;
        return blob.fd;
      },
      close: () => {
        if (closed) throw new Error('a cache handle was closed twice');
        closed = true;
        blob.handles -= 1;
        this.openHandles -= 1;
      },
    };
  }

  #blocks(offset: number, length: number): number[] {
    if (length === 0) return [];
    const first = Math.floor(offset / this.#blockBytes);
    const last = Math.floor((offset + length - 1) / this.#blockBytes);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  async #fetch(version: VersionId, signal: AbortSignal | undefined): Promise<Uint8Array> {
    await abortable(this.#gate?.promise ?? Promise.resolve(), signal);
    signal?.throwIfAborted();
    const bytes = this.#bytesOf(version);
    if (bytes === undefined) throw new TierError('stale', `version ${version} is gone`);
    return bytes;
  }

  stat(): CacheStat {
    return {
      directory: '/fake',
      health: 'normal',
      capacityBytes: 0,
      usedBytes: 0,
      reservedBytes: 0,
      pinnedBytes: 0,
      dirtyBytes: 0,
      blobs: this.#blobs.size,
      completeBlobs: 0,
      hits: 0,
      misses: 0,
      fetchedBytes: 0,
      evictedBytes: 0,
      checksumFailures: 0,
      bypassedReads: 0,
    };
  }

  list(): CachedVersion[] {
    return [];
  }

  pin(): void {}

  evict(): EvictReport {
    return { freedBytes: 0, keptBlobs: 0 };
  }

  async verify(): Promise<VerifyReport> {
    return { blobs: 0, bytes: 0, badBlocks: 0, missingBlobs: 0 };
  }

  async close(): Promise<void> {}
}
