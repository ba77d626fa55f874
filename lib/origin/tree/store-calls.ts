/**
 * The origin's calls to one object store: bounded in number and time, counted, and failing as an `OriginError` that
 * can travel to a satellite. An absent object is `undefined`, not an error.
 */
import PQueue from 'p-queue';
import type { Clock } from '../../base/clock.ts';
import {
  type ObjectHead,
  type ObjectMetadata,
  type ObjectStore,
  type ListPage,
  type ListRequest,
  StoreError,
  type UploadedPart,
  type Written,
} from '../../store/object-store.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { OriginError } from '../origin.ts';

/** Below the satellite's own deadline, so that it hears why. */
export const STORE_CALL_DEADLINE_MS = 8_000;
/** A store may put large objects together for this long. */
const WRITE_DEADLINE_MS = 120_000;
/** Calls of one export that its store works on at once. */
const STORE_CALLS_MAX = 64;
/** Calls of one export that wait for their turn; more are refused. */
const STORE_CALLS_WAITING_MAX = 10_000;
/** A target of a symlink that is kept as the object's body. */
const TARGET_BYTES_MAX = 4_095;
const SLOW_HINT = 'the store answers too slowly for the number of satellites';

export class StoreCalls {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #queue = new PQueue({ concurrency: STORE_CALLS_MAX });

  constructor(options: { readonly store: ObjectStore; readonly clock: Clock; readonly metrics: Metrics }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
  }

  head(key: string): Promise<ObjectHead | undefined> {
    return this.#call('head', async (bounds) => {
      try {
        return await this.#store.head(key, bounds);
      } catch (error) {
        // A key that this store cannot hold is one that it does not hold.
        if (error instanceof StoreError && (error.code === 'not-found' || error.code === 'invalid-key')) {
          return undefined;
        }
        throw error;
      }
    });
  }

  list(request: ListRequest, deadlineMs?: number): Promise<ListPage> {
    return this.#call('list', (bounds) => this.#store.list(request, bounds), deadlineMs);
  }

  /** The whole of a small object as text; undefined if it is gone, changed, or not small. */
  readText(head: ObjectHead): Promise<string | undefined> {
    if (head.sizeBytes === 0 || head.sizeBytes > TARGET_BYTES_MAX) return Promise.resolve(undefined);
    return this.#call('get', async (bounds) => {
      try {
        const { body } = await this.#store.get({ key: head.key, ifMatch: head.entityTag }, bounds);
        const pieces: Buffer[] = [];
        for await (const piece of body) pieces.push(piece as Buffer);
        return Buffer.concat(pieces).toString();
      } catch (error) {
        if (
          error instanceof StoreError &&
          (error.code === 'not-found' || error.code === 'precondition-failed')
        ) {
          return undefined;
        }
        throw error;
      }
    });
  }

  /** Deleting what is not there, or is another object by now, succeeds without doing anything. */
  delete(key: string, entityTag: string | undefined): Promise<void> {
    return this.#call('delete', async (bounds) => {
      try {
        await this.#store.delete(key, {
          ...bounds,
          ...(entityTag === undefined ? {} : { ifMatch: entityTag }),
        });
      } catch (error) {
        const isOther = error instanceof StoreError && error.code === 'precondition-failed';
        if (!isOther) throw error;
      }
    });
  }

  put(key: string, body: Uint8Array, metadata: ObjectMetadata): Promise<Written> {
    return this.#call('put', (bounds) => this.#store.put(key, body, { ...bounds, metadata }));
  }

  /** @returns false if the source is not that version any more */
  copy(copy: { readonly from: string; readonly to: string; readonly ifMatch: string }): Promise<boolean> {
    return this.#call(
      'copy',
      async (bounds) => {
        try {
          await this.#store.copy(copy, bounds);
          return true;
        } catch (error) {
          const isOther =
            error instanceof StoreError &&
            (error.code === 'precondition-failed' || error.code === 'not-found');
          if (isOther) return false;
          throw error;
        }
      },
      WRITE_DEADLINE_MS,
    );
  }

  createUpload(key: string, metadata: ObjectMetadata): Promise<string> {
    return this.#call('create-upload', (bounds) => this.#store.createUpload(key, { ...bounds, metadata }));
  }

  completeUpload(upload: {
    readonly key: string;
    readonly uploadId: string;
    readonly parts: readonly UploadedPart[];
  }): Promise<Written> {
    return this.#call(
      'complete-upload',
      (bounds) => this.#store.completeUpload(upload, bounds),
      WRITE_DEADLINE_MS,
    );
  }

  /** Aborting an upload that is gone succeeds. */
  abortUpload(upload: { readonly key: string; readonly uploadId: string }): Promise<void> {
    return this.#call('abort-upload', async (bounds) => {
      try {
        await this.#store.abortUpload(upload, bounds);
      } catch (error) {
        if (!(error instanceof StoreError && error.code === 'not-found')) throw error;
      }
    });
  }

  get abilities(): ObjectStore['abilities'] {
    return this.#store.abilities;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  /** The deadline holds for the wait and the call together. */
  async #call<T>(
    name: string,
    run: (bounds: { readonly deadlineMs: number }) => Promise<T>,
    deadlineMs = STORE_CALL_DEADLINE_MS,
  ): Promise<T> {
    if (this.#queue.size >= STORE_CALLS_WAITING_MAX) {
      this.#metrics.limitReached.inc({ limit: 'STORE_CALLS_WAITING_MAX' });
      throw new OriginError('unavailable', 'too many calls wait for the object store', { hint: SLOW_HINT });
    }
    const calledMs = this.#clock.nowMs();
    let result = 'ok';
    try {
      return await this.#queue.add(() => {
        const leftMs = deadlineMs - (this.#clock.nowMs() - calledMs);
        if (leftMs > 0) return run({ deadlineMs: leftMs });
        throw new OriginError('timeout', 'the call waited too long for its turn at the object store', {
          hint: SLOW_HINT,
        });
      });
    } catch (error) {
      result = error instanceof StoreError || error instanceof OriginError ? error.code : 'failed';
      throw translate(error, this.#store.url);
    } finally {
      this.#metrics.originStoreCalls.inc({ call: name, result });
    }
  }
}

function translate(error: unknown, url: string): unknown {
  if (!(error instanceof StoreError)) return error;
  const text = `object store ${url}: ${error.message}`;
  const details = { cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) };
  switch (error.code) {
    case 'access-denied':
      return new OriginError('denied', text, { hint: 'check the credentials of the origin', ...details });
    case 'timeout':
      return new OriginError('timeout', text, details);
    case 'not-found':
      return new OriginError('unavailable', text, {
        hint: 'check that the bucket or directory exists',
        ...details,
      });
    case 'invalid-key':
      return new OriginError('invalid', text, details);
    case 'no-space':
      return new OriginError('no-space', text, details);
    case 'throttled':
    case 'unavailable':
    case 'precondition-failed':
    case 'corrupt':
    case 'invalid-range':
    case 'unsupported':
    case 'invalid':
      return new OriginError('unavailable', text, details);
  }
}
