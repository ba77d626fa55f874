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
import type { Readable } from 'node:stream';
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
  /** So much is asked for by a GET of its own, as servers begin to answer small ranges sooner; 0: one GET. */
  readonly leadBytes: number;
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

/** `again`: another GET may help. */
interface GetFailure {
  readonly failure: unknown;
  readonly again: boolean;
}

interface OpenBody {
  readonly body: Readable;
  /** Where it ends in the version. */
  readonly end: number;
  readonly contentMd5: string | undefined;
}

type Get = Promise<OpenBody | GetFailure>;

export async function fetchRange(fetch: RangedFetch, dependencies: RangedFetchDependencies): Promise<void> {
  const { clock, limits, prng } = dependencies;
  const what = `fetching ${fetch.source.objectKey}`;
  const deadline = clock.nowMs() + fetch.deadlineMs;
  const isWhole = fetch.length === fetch.source.sizeBytes && fetch.length <= limits.wholeObjectBytesMax;
  const whole = isWhole ? new WholeObject(fetch) : undefined;
  const transfer = new BodyTransfer(whole ?? fetch, limits);
  const get = (from: number, to: number): Get =>
    openBody(fetch, { from, to }, { ...dependencies, remainingMs: deadline - clock.nowMs() });
  const end = fetch.offset + fetch.length;
  const leadEnd = fetch.offset + fetch.leadBytes;
  const isLed = fetch.leadBytes > 0 && !isWhole && leadEnd < end;
  let gets = isLed
    ? ledGets(get, { offset: fetch.offset, leadEnd, end }, dependencies)
    : [get(fetch.offset, end)];
  let backoffMs = limits.resumeBackoffMs;
  for (let resumes = 0, corruptions = 0; ; resumes++) {
    const from = transfer.takenTo;
    const failed = (await takeAll(gets, { transfer, whole })) ?? whole?.mismatch();
    if (failed === undefined) return;
    const error = tierErrorOf(failed.failure, what);
    if (error.code === 'corrupt') {
      corruptions++;
      transfer.restart();
    }
    const isOver =
      resumes === limits.resumesMax || corruptions > limits.corruptionsMax || fetch.signal.aborted;
    if (isOver || !failed.again || !isPassing(error)) throw error;
    if (transfer.takenTo > from) backoffMs = limits.resumeBackoffMs;
    const pauseMs = backoffMs * (0.5 + prng.next() / 2);
    if (clock.nowMs() + pauseMs >= deadline) throw new TierError('timeout', what, { cause: failed.failure });
    await sleep(clock, pauseMs, fetch.signal).catch(() => Promise.reject(error));
    backoffMs = Math.min(limits.resumeBackoffMsMax, backoffMs * 2);
    gets = [get(transfer.takenTo, end)];
  }
}

/**
 * The lead and the rest. The rest is asked for once the lead is answered, so that nothing competes with what somebody
 * waits for; or a little later, since a store that is far away should not be asked twice in turn.
 */
function ledGets(
  get: (from: number, to: number) => Get,
  range: { readonly offset: number; readonly leadEnd: number; readonly end: number },
  { clock, limits }: RangedFetchDependencies,
): Get[] {
  const lead = get(range.offset, range.leadEnd);
  const rest = new Promise<OpenBody | GetFailure>((resolve) => {
    let asked = false;
    const ask = (): void => {
      if (!asked) resolve(get(range.leadEnd, range.end));
      asked = true;
    };
    const cancel = clock.after(limits.leadMs, ask);
    void lead.then((answer) => {
      cancel();
      // Without the lead the rest is of no use.
      if ('failure' in answer) resolve(answer);
      else ask();
    });
  });
  return [lead, rest];
}

function isPassing(error: TierError): boolean {
  return error.code === 'unavailable' || error.code === 'timeout' || error.code === 'corrupt';
}

async function openBody(
  { source, signal }: RangedFetch,
  { from, to }: { readonly from: number; readonly to: number },
  { store, limits, remainingMs }: RangedFetchDependencies & { readonly remainingMs: number },
): Get {
  const length = to - from;
  try {
    const { head, body, bodyBytes } = await store.get(
      {
        key: source.objectKey,
        ...(length === source.sizeBytes ? {} : { range: { offset: from, length } }),
        ifMatch: source.entityTag,
        transient: true,
        ...(source.objectVersion === undefined ? {} : { versionId: source.objectVersion }),
      },
      { signal, deadlineMs: Math.max(1, Math.min(limits.stallMs, remainingMs)) },
    );
    // It may fail before anybody listens; whoever takes it sees that.
    body.on('error', () => undefined);
    if (bodyBytes === length) return { body, end: to, contentMd5: head.contentMd5 };
    body.destroy();
    const told = `the store offers ${bodyBytes} bytes of ${length}`;
    return { failure: new StoreError('corrupt', told), again: true };
  } catch (failure) {
    // What the store gave up on for lack of time may work in what is left; anything else it has retried itself.
    return { failure, again: failure instanceof StoreError && failure.code === 'timeout' };
  }
}

/** Takes bodies one after the other; after a failure the rest is let go. */
async function takeAll(
  gets: readonly Get[],
  { transfer, whole }: { readonly transfer: BodyTransfer; readonly whole: WholeObject | undefined },
): Promise<GetFailure | undefined> {
  for (const [index, get] of gets.entries()) {
    const opened = await get;
    let failed: GetFailure | undefined;
    if ('body' in opened) {
      whole?.expect(opened.contentMd5);
      const failure = await transfer.take(opened.body, opened.end);
      if (failure !== undefined) failed = { failure, again: true };
    } else failed = opened;
    if (failed === undefined) continue;
    for (const other of gets.slice(index + 1)) {
      void other.then((unused) => 'body' in unused && unused.body.destroy());
    }
    return failed;
  }
  return undefined;
}

/** Withholds progress, as nothing of the object can be trusted before its end, and compares its MD5 where that is known. */
class WholeObject {
  readonly offset: number;
  readonly signal: AbortSignal;
  readonly sink: RangeSink;
  #expected: string | undefined;
  #md5: Hash | undefined;

  constructor({ offset, signal, sink }: RangedFetch) {
    this.offset = offset;
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

  mismatch(): GetFailure | undefined {
    if (this.#md5 === undefined || this.#md5.digest('hex') === this.#expected) return undefined;
    const failure = new StoreError('corrupt', 'the bytes do not match the MD5 of the object');
    return { failure, again: true };
  }
}
