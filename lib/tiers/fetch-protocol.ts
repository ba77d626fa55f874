/**
 * What the thread that decides and the threads that fetch and send say to each other, as plain data.
 *
 * Invariants: a worker answers each `fetch` exactly once, with `filled`, `bytes` or `failed`, and each `send` with
 * `sent` or `failed`, also after `cancel`; once it has answered it touches that request's descriptor no more. After
 * `close` it ends by itself.
 */
import type { StoreAccess } from '../store/object-store.ts';
import type { PartRange } from './part-geometry.ts';
import type { TierFailure } from './tier-errors.ts';
import type { VersionSource } from './tier.ts';

export interface FetchCommand {
  readonly kind: 'fetch';
  readonly id: number;
  readonly storeUrl: string;
  readonly source: VersionSource;
  readonly offset: number;
  readonly length: number;
  /** Where the bytes go, at their own offsets. Absent: they come back in the answer. */
  readonly sink: { readonly descriptor: number; readonly blockBytes: number } | undefined;
  /** Somebody waits for the first bytes: this many are fetched by a GET of their own. */
  readonly leadBytes: number;
  readonly deadlineMs: number;
}

/** A range of a file becomes a part of an upload. */
export interface SendCommand {
  readonly kind: 'send';
  readonly id: number;
  readonly storeUrl: string;
  readonly upload: { readonly key: string; readonly uploadId: string };
  readonly part: PartRange;
  /** Where the bytes are, at their own offsets. */
  readonly descriptor: number;
  readonly blockBytes: number;
  /** Of the blocks of this part as it was sent last: it is only sent if it is another one now. */
  readonly known: readonly number[] | undefined;
  readonly deadlineMs: number;
}

/** `prepare`: that store will be asked soon; answered with `access`, unless it fails. */
export type ToFetchWorker =
  | FetchCommand
  | SendCommand
  | { readonly kind: 'prepare'; readonly storeUrl: string }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'close' };

/** `access`: how to read that store without its client; undefined: not at all. */
export type FromFetchWorker =
  | { readonly kind: 'access'; readonly storeUrl: string; readonly access: StoreAccess | undefined }
  | { readonly kind: 'progress'; readonly id: number; readonly filledTo: number }
  | { readonly kind: 'filled'; readonly id: number; readonly blockChecksums: readonly number[] }
  | { readonly kind: 'bytes'; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | {
      readonly kind: 'sent';
      readonly id: number;
      readonly blockChecksums: readonly number[];
      /** Of the part as it is in the store now; undefined: it was not sent, for it is as known. */
      readonly entityTag: string | undefined;
    }
  | { readonly kind: 'failed'; readonly id: number; readonly failure: TierFailure };

/** A running worker as the pool sees it. `lib/daemon/fetch-worker.ts` makes them of threads, tests of plain objects. */
export interface FetchWorker {
  post(message: ToFetchWorker): void;
  /** Ends it at once; `onEnd` follows. */
  terminate(): void;
}

/** Never called before the factory has returned. */
export interface FetchWorkerEvents {
  onMessage(message: FromFetchWorker): void;
  /** Exactly once, when the worker is gone and none of its writes is under way. */
  onEnd(cause: unknown): void;
}

export type FetchWorkerFactory = (events: FetchWorkerEvents) => FetchWorker;

/** The worker's end. */
export interface FetchPort {
  post(message: FromFetchWorker, transfer?: readonly ArrayBuffer[]): void;
  onMessage(listener: (message: ToFetchWorker) => void): void;
  /** Nothing more will come or go; lets the thread end. */
  close(): void;
}
