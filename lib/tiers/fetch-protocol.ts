/**
 * What the thread that decides and the threads that fetch say to each other, as plain data.
 *
 * Invariants: a worker answers each `fetch` exactly once, with `filled`, `bytes` or `failed`, also after `cancel`;
 * once it has answered it writes nothing more to that request's descriptor. After `close` it ends by itself.
 */
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

/** `prepare`: that store will be asked soon. */
export type ToFetchWorker =
  | FetchCommand
  | { readonly kind: 'prepare'; readonly storeUrl: string }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'close' };

export type FromFetchWorker =
  | { readonly kind: 'progress'; readonly id: number; readonly filledTo: number }
  | { readonly kind: 'filled'; readonly id: number; readonly blockChecksums: readonly number[] }
  | { readonly kind: 'bytes'; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
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
