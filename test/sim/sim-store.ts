/**
 * An object store across a network: one bucket that everybody shares, and each process's calls to it, which take time,
 * may fail before or after they took effect, and take effect even if the process that sent them has died.
 */
import type { Prng } from '../../lib/base/prng.ts';
import {
  type GetRequest,
  type ListRequest,
  type ObjectStore,
  StoreError,
} from '../../lib/store/object-store.ts';
import { MemoryStore } from '../origin/memory-store.ts';
import type { Trace } from '../history/report.ts';
import type { SimProcess, SimTime } from './sim-time.ts';

const DELAY_MS_MAX = 30;

/** What is in the store. */
export class SimBucket extends MemoryStore {
  /** Of calls that fail, before or after they took effect. */
  failuresShare = 0;
}

/** The bucket as one process reaches it. */
export function simStore(options: {
  readonly bucket: SimBucket;
  readonly time: SimTime;
  readonly process: SimProcess;
  readonly prng: Prng;
  readonly trace: Trace;
}): ObjectStore {
  const { bucket, time, process, prng, trace } = options;
  const write = <T>(text: string, run: () => Promise<T>): Promise<T> =>
    call(() => {
      trace(`store: ${text}`, []);
      return run();
    });
  const call = <T>(run: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const back = (then: () => void): void => {
        time.after(prng.next() * DELAY_MS_MAX, () => process.run(then));
      };
      const fails = prng.next() < bucket.failuresShare ? prng.below(2) : undefined;
      const refused = new StoreError('unavailable', 'the store did not answer');
      time.after(prng.next() * DELAY_MS_MAX, () => {
        if (fails === 0) return back(() => reject(refused));
        bucket.nowMs = 1_700_000_000_000 + time.nowMs;
        run().then(
          (value) => back(() => (fails === 1 ? reject(refused) : resolve(value))),
          (error: unknown) => back(() => reject(error)),
        );
      });
    });
  return {
    url: bucket.url,
    abilities: bucket.abilities,
    head: (key) => call(() => bucket.head(key)),
    get: (request: GetRequest) => call(() => bucket.get(request)),
    list: (request: ListRequest) => call(() => bucket.list(request)),
    put: (key, body, put) => write(`put ${key}`, () => bucket.put(key, body, put)),
    createUpload: (key, put) => call(() => bucket.createUpload(key, put)),
    uploadPart: (upload, body) => call(() => bucket.uploadPart(upload, body)),
    completeUpload: (upload) => write(`complete ${upload.key}`, () => bucket.completeUpload(upload)),
    abortUpload: (upload) => call(() => bucket.abortUpload(upload)),
    copy: (copy) => write(`copy ${copy.from} to ${copy.to}`, () => bucket.copy(copy)),
    delete: (key, conditions) =>
      write(`delete ${key} ${conditions?.ifMatch ?? ''}`, () => bucket.delete(key, conditions)),
    close: async () => undefined,
  };
}
