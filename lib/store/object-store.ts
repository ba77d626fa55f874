/**
 * The contract of an object store: flat keys, immutable contents that are replaced whole, entity tags.
 *
 * Guarantees that every implementation gives, proved by one contract suite (test/store/contract.ts):
 * - `get` with `ifMatch` never yields a byte of another version, and never ends normally short of the range;
 * - `put` and `complete` are atomic: readers see the old object or the new one;
 * - every call ends within its deadline, with an `StoreError` whose code tells what to do next.
 */
import type { Readable } from 'node:stream';
import { PerigeeError } from '../base/errors.ts';
import type { StoreAccess } from './store-access.ts';

export type { QuickRead, QuickReader, StoreAccess } from './store-access.ts';

/**
 * - `not-found`: no such object, upload or bucket (404, 410)
 * - `precondition-failed`: the entity tag or version is not the one asked for (412, 409)
 * - `access-denied`: 401, 403, expired or clock-skewed credentials; the hint says which
 * - `throttled`: the store asked us to slow down and still did after our retries (429, 503 SlowDown)
 * - `unavailable`: not reachable, reset, 5xx, after our retries
 * - `timeout`: the deadline passed
 * - `corrupt`: wrong length or checksum, after our retries
 * - `invalid-range`: the range begins at or after the end
 * - `invalid-key`: this store cannot hold that key
 * - `unsupported`: the store has no such ability
 * - `no-space`: the store is full
 * - `invalid`: any other refusal (400)
 */
export type StoreErrorCode =
  | 'not-found'
  | 'precondition-failed'
  | 'access-denied'
  | 'throttled'
  | 'unavailable'
  | 'timeout'
  | 'corrupt'
  | 'invalid-range'
  | 'invalid-key'
  | 'unsupported'
  | 'no-space'
  | 'invalid';

export class StoreError extends PerigeeError<StoreErrorCode> {
  override readonly layer = 'store';
}

/** Lower-case names, printable ASCII values; what S3 carries as x-amz-meta-*. */
export type ObjectMetadata = Readonly<Record<string, string>>;

/** What a listing tells of an object. */
export interface ObjectSummary {
  readonly key: string;
  readonly sizeBytes: number;
  /** Opaque; without the quotes of HTTP. Two contents of one key never share one. */
  readonly entityTag: string;
  readonly modifiedMs: number;
}

/** What HEAD and GET tell of an object. */
export interface ObjectHead extends ObjectSummary {
  readonly versionId: string | undefined;
  readonly metadata: ObjectMetadata;
  /**
   * MD5 of the whole content, 32 lower-case hexadecimal digits, only where the store vouches for it: the entity tag of
   * an S3 object is one unless it was uploaded in parts or encrypted with SSE-KMS or SSE-C.
   */
  readonly contentMd5?: string;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** For the whole call with its retries; for `get`, up to the first byte, and again between bytes. Default STORE_DEADLINE_MS. */
  readonly deadlineMs?: number;
}

export interface GetRequest {
  readonly key: string;
  /** Absent: the whole object. `length` may reach over the end, `offset` may not. */
  readonly range?: { readonly offset: number; readonly length: number };
  /** The only version whose bytes are wanted; another one is `precondition-failed`. */
  readonly ifMatch?: string;
  readonly versionId?: string;
  /**
   * The caller is done with each piece of the body when its `data` listener returns; the store may then use the
   * piece's memory again.
   */
  readonly transient?: boolean;
}

export interface GetResult {
  readonly head: ObjectHead;
  /** Bytes that `body` will yield; a body that ends short of it is destroyed with a `StoreError`. */
  readonly bodyBytes: number;
  readonly body: Readable;
}

export interface ListRequest {
  readonly prefix: string;
  /** Groups keys after the prefix; only `/` is used. */
  readonly delimiter?: '/';
  /** Only keys (and common prefixes) after this one, in order of UTF-8 bytes. */
  readonly startAfter?: string;
  readonly token?: string;
  /** At most this many objects and prefixes; default and ceiling 1,000. */
  readonly keysMax?: number;
}

export interface ListPage {
  readonly objects: readonly ObjectSummary[];
  /** Each ends with the delimiter. */
  readonly prefixes: readonly string[];
  /** Absent on the last page. */
  readonly nextToken: string | undefined;
  /** Names met on the way that are no UTF-8, with U+FFFD for what is wrong; no key leads to them. For reports. */
  readonly undecodable?: readonly string[];
}

export interface WriteConditions {
  /** Only over this version. */
  readonly ifMatch?: string;
  /** Only if there is no object yet. */
  readonly ifAbsent?: boolean;
}

export interface PutOptions extends CallOptions, WriteConditions {
  readonly metadata?: ObjectMetadata;
}

export interface Written {
  readonly entityTag: string;
  readonly versionId: string | undefined;
}

export interface UploadedPart {
  /** From 1. */
  readonly number: number;
  readonly entityTag: string;
  readonly sizeBytes: number;
}

/** What this store was built for; what a server silently ignores is found by `perigee doctor`. */
export interface StoreAbilities {
  /** `ifMatch` and `ifAbsent` on put and complete are enforced by this process or known to be by the server. */
  readonly conditionalWrites: 'enforced' | 'server-dependent';
  /** Smallest part but the last, bytes. */
  readonly partBytesMin: number;
  readonly partsMax: number;
}

export interface ObjectStore {
  /** For people: the URL without secrets. */
  readonly url: string;
  readonly abilities: StoreAbilities;
  /** Loads and learns what the first call would otherwise wait for; asks the server nothing. Never fails. */
  prepare?(): Promise<void>;
  /** Undefined: there is no other way to this store than its own calls, or it is not known yet. */
  access?(): Promise<StoreAccess | undefined>;
  head(key: string, options?: CallOptions & { readonly versionId?: string }): Promise<ObjectHead>;
  get(request: GetRequest, options?: CallOptions): Promise<GetResult>;
  list(request: ListRequest, options?: CallOptions): Promise<ListPage>;
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<Written>;
  createUpload(key: string, options?: PutOptions): Promise<string>;
  uploadPart(
    upload: { readonly key: string; readonly uploadId: string; readonly partNumber: number },
    body: Uint8Array,
    options?: CallOptions,
  ): Promise<UploadedPart>;
  completeUpload(
    upload: { readonly key: string; readonly uploadId: string; readonly parts: readonly UploadedPart[] },
    options?: CallOptions & WriteConditions,
  ): Promise<Written>;
  abortUpload(
    upload: { readonly key: string; readonly uploadId: string },
    options?: CallOptions,
  ): Promise<void>;
  /** Server-side; of any size; keeps metadata unless new metadata is given. */
  copy(
    copy: { readonly from: string; readonly to: string; readonly ifMatch?: string },
    options?: PutOptions,
  ): Promise<Written>;
  /** Deleting what is not there succeeds. */
  delete(key: string, options?: CallOptions & WriteConditions): Promise<void>;
  /** Ends connections; calls under way fail. */
  close(): Promise<void>;
}
