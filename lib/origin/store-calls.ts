/**
 * The origin's calls to one object store: bounded in number and time, counted, and failing as an `OriginError` that
 * can travel to a satellite. An absent object is `undefined`, not an error.
 */
import PQueue from 'p-queue';
import {
  type ObjectHead,
  type ObjectStore,
  type ListPage,
  type ListRequest,
  StoreError,
} from '../store/object-store.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { OriginError } from './origin.ts';

/** Below the satellite's own deadline, so that it hears why. */
export const STORE_CALL_DEADLINE_MS = 8_000;
/** Calls of one export that its store works on at once. */
const STORE_CALLS_MAX = 64;
/** Calls of one export that wait for their turn; more are refused. */
const STORE_CALLS_WAITING_MAX = 10_000;
/** A target of a symlink that is kept as the object's body. */
const TARGET_BYTES_MAX = 4_095;

export class StoreCalls {
  readonly #store: ObjectStore;
  readonly #metrics: Metrics;
  readonly #queue = new PQueue({ concurrency: STORE_CALLS_MAX });

  constructor(options: { readonly store: ObjectStore; readonly metrics: Metrics }) {
    this.#store = options.store;
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

  list(request: ListRequest, deadlineMs = STORE_CALL_DEADLINE_MS): Promise<ListPage> {
    return this.#call('list', () => this.#store.list(request, { deadlineMs }));
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

  close(): Promise<void> {
    return this.#store.close();
  }

  async #call<T>(name: string, run: (bounds: { deadlineMs: number }) => Promise<T>): Promise<T> {
    if (this.#queue.size >= STORE_CALLS_WAITING_MAX) {
      this.#metrics.limitReached.inc({ limit: 'STORE_CALLS_WAITING_MAX' });
      throw new OriginError('unavailable', 'too many calls wait for the object store', {
        hint: 'the store answers too slowly for the number of satellites',
      });
    }
    let result = 'ok';
    try {
      return await this.#queue.add(() => run({ deadlineMs: STORE_CALL_DEADLINE_MS }));
    } catch (error) {
      result = error instanceof StoreError ? error.code : 'failed';
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
    case 'throttled':
    case 'unavailable':
    case 'precondition-failed':
    case 'corrupt':
    case 'invalid-range':
    case 'invalid-key':
    case 'unsupported':
    case 'no-space':
    case 'invalid':
      return new OriginError('unavailable', text, details);
  }
}
