/**
 * One range of one version from an object store into a sink, in a worker thread.
 *
 * Guarantees: resolves only when the sink has taken every byte of the range; rejects with a `TierError`. Every GET is conditional on the entity tag (and the version id), so bytes of two
 * versions never mix. A body that breaks off is taken up by a new conditional GET from where it ended, a bounded
 * number of times within one deadline; a GET that is refused has had the store's own retries and is not repeated.
 *
 * Verification: an object that the range covers whole, and whose MD5 the store vouches for, is compared with it before
 * any progress is reported. The store's client checks the checksums that a server sends. For a range of a larger
 * object S3 offers no checksum: there the length is checked, and TLS protects the bytes on their way.
 */
import { createHash, type Hash } from 'node:crypto';
import { sleep, type Clock } from '../base/clock.ts';
import type { Prng } from '../base/prng.ts';
import { StoreError, type ObjectStore } from '../store/object-store.ts';
import { BodyTransfer, type RangeSink } from './body-transfer.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { tierErrorOf } from './tier-errors.ts';
import { TierError, type VersionSource } from './tier.ts';

export interface RangedFetch {
  readonly source: VersionSource;
  readonly offset: number;
  readonly length: number;
  readonly sink: RangeSink;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly onProgress: (filledTo: number) => void;
}

export interface RangedFetchDependencies {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly limits: FetchLimits;
}

/** How one GET ended. `again`: another one may help. */
interface GetEnd {
  readonly failure: unknown;
  readonly again: boolean;
}

export async function fetchRange(fetch: RangedFetch, dependencies: RangedFetchDependencies): Promise<void> {
  const { clock, limits, prng } = dependencies;
  const what = `fetching ${fetch.source.objectKey}`;
  const deadline = clock.nowMs() + fetch.deadlineMs;
  const isWhole = fetch.length === fetch.source.sizeBytes && fetch.length <= limits.wholeObjectBytesMax;
  const whole = isWhole ? new WholeObject(fetch) : undefined;
  const transfer = new BodyTransfer(whole ?? fetch, limits);
  let backoffMs = limits.resumeBackoffMs;
  for (let resumes = 0, corruptions = 0; ; resumes++) {
    const from = transfer.takenTo;
    const remainingMs = Math.max(1, deadline - clock.nowMs());
    const end = await getOnce(fetch, { transfer, whole }, { ...dependencies, remainingMs });
    const failure = end.failure ?? whole?.mismatch();
    if (failure === undefined) return;
    const error = tierErrorOf(failure, what);
    if (error.code === 'corrupt') {
      corruptions++;
      transfer.restart();
    }
    const isOver =
      resumes === limits.resumesMax || corruptions > limits.corruptionsMax || fetch.signal.aborted;
    if (isOver || !end.again || !isPassing(error)) throw error;
    if (transfer.takenTo > from) backoffMs = limits.resumeBackoffMs;
    const pauseMs = backoffMs * (0.5 + prng.next() / 2);
    if (clock.nowMs() + pauseMs >= deadline) throw new TierError('timeout', what, { cause: failure });
    await sleep(clock, pauseMs, fetch.signal).catch(() => Promise.reject(error));
    backoffMs = Math.min(limits.resumeBackoffMsMax, backoffMs * 2);
  }
}

function isPassing(error: TierError): boolean {
  return error.code === 'unavailable' || error.code === 'timeout' || error.code === 'corrupt';
}

async function getOnce(
  fetch: RangedFetch,
  { transfer, whole }: { readonly transfer: BodyTransfer; readonly whole: WholeObject | undefined },
  { store, limits, remainingMs }: RangedFetchDependencies & { readonly remainingMs: number },
): Promise<GetEnd> {
  const { source, signal } = fetch;
  const offset = transfer.takenTo;
  const length = fetch.offset + fetch.length - offset;
  try {
    const { head, body, bodyBytes } = await store.get(
      {
        key: source.objectKey,
        ...(length === source.sizeBytes ? {} : { range: { offset, length } }),
        ifMatch: source.entityTag,
        ...(source.objectVersion === undefined ? {} : { versionId: source.objectVersion }),
      },
      { signal, deadlineMs: Math.min(limits.stallMs, remainingMs) },
    );
    whole?.expect(head.contentMd5);
    if (bodyBytes === length) return { failure: await transfer.take(body), again: true };
    body.on('error', () => undefined).destroy();
    const told = `the store offers ${bodyBytes} bytes of ${length}`;
    return { failure: new StoreError('corrupt', told), again: true };
  } catch (failure) {
    // What the store gave up on for lack of time may work in what is left; anything else it has retried itself.
    return { failure, again: failure instanceof StoreError && failure.code === 'timeout' };
  }
}

/** Withholds progress, as nothing of the object can be trusted before its end, and compares its MD5 where that is known. */
class WholeObject {
  readonly offset: number;
  readonly length: number;
  readonly signal: AbortSignal;
  readonly sink: RangeSink;
  #expected: string | undefined;
  #md5: Hash | undefined;

  constructor({ offset, length, signal, sink }: RangedFetch) {
    this.offset = offset;
    this.length = length;
    this.signal = signal;
    this.sink = {
      observe: (piece) => {
        this.#md5?.update(piece);
        sink.observe(piece);
      },
      write: (pieces, position) => sink.write(pieces, position),
      restart: () => {
        this.#md5 = undefined;
        sink.restart();
      },
    };
  }

  readonly onProgress = (): void => undefined;

  /** Each body of one version says the same. */
  expect(contentMd5: string | undefined): void {
    this.#expected = contentMd5;
    if (contentMd5 !== undefined) this.#md5 ??= createHash('md5');
  }

  mismatch(): unknown {
    if (this.#md5 === undefined || this.#md5.digest('hex') === this.#expected) return undefined;
    return new StoreError('corrupt', 'the bytes do not match the MD5 of the object');
  }
}
