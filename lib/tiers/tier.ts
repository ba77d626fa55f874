/**
 * Where bytes come from when NVMe has none: peers later, object stores now.
 *
 * A tier yields bytes of exactly one version or fails; what it wrote into a sink before it failed must be
 * treated as not written. Deadlines and retries belong to the tier; single flight belongs to the cache.
 */
import type { VersionId } from '../base/brand.ts';
import { PerigeeError } from '../base/errors.ts';

/**
 * - `stale`: the object is no longer this version (replaced or deleted behind our back)
 * - `unavailable`: no tier could answer; trying later may help
 * - `denied`: the store refuses us
 * - `timeout`: the deadline passed
 * - `corrupt`: bytes did not match length or checksum, repeatedly
 * - `sink`: the file on NVMe refused to be written, or to be read; the cause is the system's error
 * - `no-space`: the store is full
 * - `closed`: the tier is shutting down
 */
export type TierErrorCode =
  'stale' | 'unavailable' | 'denied' | 'timeout' | 'corrupt' | 'sink' | 'no-space' | 'closed';

export class TierError extends PerigeeError<TierErrorCode> {
  override readonly layer = 'tier';
}

/** One version and where its bytes lie. Comes from the origin; plain data, may be sent to a worker. */
export interface VersionSource {
  readonly version: VersionId;
  /** Which export's store; the key under which tiers find the object store. */
  readonly exportName: string;
  readonly objectKey: string;
  readonly objectVersion: string | undefined;
  readonly entityTag: string;
  readonly sizeBytes: number;
}

/** Lower goes first: somebody waits for `demand`; `readahead` will be asked for soon; `background` completes files. */
export type FetchPriority = 'demand' | 'readahead' | 'background';

export interface FillRequest {
  readonly source: VersionSource;
  /** Begins at a block boundary; ends at one or at the end of the version. */
  readonly offset: number;
  readonly length: number;
  readonly blockBytes: number;
  readonly priority: FetchPriority;
  /**
   * An open descriptor of this process; bytes are written at their own offsets in the version. May be opened, or fail to
   * be, when it is looked at: best while something else is on its way.
   */
  readonly sinkFd: number;
}

export interface FillResult {
  /** CRC-32 (node:zlib) of each block in the range, in order. */
  readonly blockChecksums: readonly number[];
}

export interface FillOptions {
  readonly signal?: AbortSignal;
  /** Called as bytes become readable in the sink: everything in [request.offset, filledTo) is there and belongs to the version as far as the transport can tell. A retry never moves it back. */
  readonly onProgress?: (filledTo: number) => void;
  /**
   * Called once at most, with the first bytes of the range, when they are there before the sink has them: for a reader
   * who waits. They belong to the version as far as the transport can tell, and are never changed.
   */
  readonly onLead?: (bytes: Uint8Array) => void;
}

export interface Tier {
  readonly name: string;
  /** Fetches a range into the sink. Resolves when every byte of it is written (not yet durable). */
  fill(request: FillRequest, options?: FillOptions): Promise<FillResult>;
  /** Fetches a range into memory: small ranges of huge files, and everything while NVMe is in bypass. Exactly `length` bytes. */
  read(
    range: {
      readonly source: VersionSource;
      readonly offset: number;
      readonly length: number;
      readonly priority: FetchPriority;
    },
    options?: { readonly signal?: AbortSignal },
  ): Promise<Uint8Array>;
  close(): Promise<void>;
}
