/**
 * The contract of the NVMe tier.
 *
 * Guarantees: a byte that `read` returns, or that can be reached through `backingFd`, belongs to exactly the
 * version asked for and was verified; concurrent requests for one block are one fetch; space is reserved
 * before it is used; a failing disk costs speed, never a read.
 */
import type { InodeNumber } from '../lib/base/brand.ts';
import { PerigeeError } from '../lib/base/errors.ts';
import type { FetchPriority, VersionSource } from '../lib/tiers/tier.ts';

/**
 * - `locked`: the directory belongs to another running satellite
 * - `format`: its format is unknown to this release
 * - `foreign`: it is not empty and not a cache directory
 * - `too-small`: smaller than the least that works
 * - `disk`: the system refused; the cause has the errno
 * - `not-cached`: the command names a version that is not here
 * - `no-space`: a pin, a fill or a writer has no room that could be freed
 * - `too-large`: the file system has no files of that size
 * - `unsupported`: the file system cannot do it
 * - `journal`: what is owed to writers does not verify, or is not all there
 * - `closed`: the cache is shutting down
 */
export type CacheErrorCode =
  | 'locked'
  | 'format'
  | 'foreign'
  | 'too-small'
  | 'disk'
  | 'not-cached'
  | 'no-space'
  | 'too-large'
  | 'unsupported'
  | 'journal'
  | 'closed';

export class CacheError extends PerigeeError<CacheErrorCode> {
  override readonly layer = 'cache';
}

export interface OpenVersion {
  readonly source: VersionSource;
  readonly inode: InodeNumber;
  /** Path in the export when it was opened, for people (`perigee cache list`). */
  readonly path: string;
  /** False: it only looks, or works ahead, and no program uses the version by it. */
  readonly isUse?: boolean;
  /** True: somebody will read it soon, so that it need not deserve its place by uses of its own. */
  readonly isExpected?: boolean;
}

/** One opener's hold on one version. While any handle exists its blob is not evicted. */
export interface CacheHandle {
  readonly source: VersionSource;
  /** Bytes of the blob that are present and verified or verifiable. */
  readonly cachedBytes: number;
  /**
   * The bytes of [offset, offset + length), short only at the end of the version. Fetches what is missing. They may
   * lie in `into`, which has room for `length` bytes and may still be written to after a failure.
   * @throws TierError, CacheError
   */
  read(
    offset: number,
    length: number,
    options?: { readonly signal?: AbortSignal; readonly into?: Uint8Array | undefined },
  ): Promise<Uint8Array>;
  /** Brings a range to NVMe without returning it. Resolves when it is there, or when the cache declines (no room, bypass). */
  fill(
    offset: number,
    length: number,
    options: { readonly priority: FetchPriority; readonly signal?: AbortSignal },
  ): Promise<void>;
  /**
   * A descriptor of the blob if it is complete and verified, to be handed to the kernel; else undefined.
   * Owned by the cache, valid until `close`. Once asked for, the blob counts as open in passthrough.
   */
  backingFd(): number | undefined;
  close(): void;
}

export type CacheHealth = 'normal' | 'unstable' | 'down';

export interface CacheStat {
  readonly directory: string;
  readonly health: CacheHealth;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly reservedBytes: number;
  readonly pinnedBytes: number;
  /** Of what is used, working copies, which give way to nobody. */
  readonly dirtyBytes: number;
  readonly blobs: number;
  readonly completeBlobs: number;
  readonly hits: number;
  readonly misses: number;
  readonly fetchedBytes: number;
  readonly evictedBytes: number;
  readonly checksumFailures: number;
  readonly bypassedReads: number;
}

export interface CachedVersion {
  readonly version: string;
  readonly exportName: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly cachedBytes: number;
  readonly state: 'filling' | 'complete';
  readonly pinned: boolean;
  readonly uses: number;
  readonly open: boolean;
}

export interface EvictReport {
  readonly freedBytes: number;
  /** Blobs that stay because they are open, pinned or being worked on. */
  readonly keptBlobs: number;
}

export interface VerifyReport {
  readonly blobs: number;
  readonly bytes: number;
  readonly badBlocks: number;
  /** Blobs whose file somebody removed; they are not among `blobs`. */
  readonly missingBlobs: number;
}

/** A path means the file of that path, and every file below it; none, the whole cache. */
export interface BlockCache {
  /** Never waits for the network. Creates the blob on first use. */
  open(version: OpenVersion): CacheHandle;
  stat(): CacheStat;
  list(filter: { readonly path?: string }): CachedVersion[];
  /** A pinned version is never evicted. Pinning beyond the capacity is refused. */
  pin(version: string, pinned: boolean): void;
  /** Removes versions that are neither in use nor pinned. */
  evict(filter: { readonly path?: string; readonly version?: string }): EvictReport;
  /** Reads every present block and compares its checksum; bad ones are dropped and will be fetched again. */
  verify(
    filter: { readonly path?: string },
    options?: { readonly signal?: AbortSignal },
  ): Promise<VerifyReport>;
  /** Makes everything durable and lets the directory go. */
  close(): Promise<void>;
}
