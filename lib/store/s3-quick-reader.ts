/**
 * Small pieces of S3 objects by one plain GET each, for a thread that has neither the SDK nor time: the answer is right or
 * there is none. Whatever is out of the ordinary (a refusal, a break, a late answer, one that is not understood) is left to
 * a store with all its retries and errors, which then says what is the matter.
 *
 * Guarantees: true only if exactly the bytes that were asked for came, of the version that was asked for; for a whole
 * object that is compared with its MD5, and objects whose MD5 is not known are not read here as a whole.
 * A request that is not answered within its time gives its connection up. Servers that refuse are left alone for a while.
 */
import { hash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { UnusualAnswerError, type HttpAnswer } from './http-connection.ts';
import { HttpPool } from './http-pool.ts';
import { isMd5Tag } from './md5.ts';
import { type QuickRead, type QuickReader, type StoreAccess, StoreError } from './object-store.ts';
import { answeredRange, expectVersion, headOf, s3Key } from './s3-objects.ts';
import { S3Signature } from './s3-signature.ts';
import { gotOf, requestText, type S3Got } from './s3-wire.ts';

/** From the request to the last byte. */
const ANSWER_MS = 3_000;
/** Late answers are looked for this often: one timer for all requests of that time. */
const TURN_MS = 500;
/** After a refusal nothing is asked for so long: whoever asks instead knows how to wait. */
const REST_MS = 1_000;

/** Requests that began at about the same time, and end together if they are late. */
interface Turn {
  readonly late: AbortController;
  readonly endsMs: number;
}

export class S3QuickReader implements QuickReader {
  readonly #access: StoreAccess;
  readonly #clock: Clock;
  readonly #pool: HttpPool;
  readonly #signature = new S3Signature();
  readonly #turns: Turn[] = [];
  readonly #stop: () => void;
  #restsUntilMs = Number.NEGATIVE_INFINITY;

  /** @param options.connectionsMax requests at one time; further ones wait */
  constructor(options: {
    readonly access: StoreAccess;
    readonly clock: Clock;
    readonly connectionsMax: number;
  }) {
    const { access, clock, connectionsMax } = options;
    this.#access = access;
    this.#clock = clock;
    this.#pool = new HttpPool({ place: access.place, ca: access.ca, clock, connectionsMax });
    this.#pool.warm();
    this.#stop = clock.every(TURN_MS, () => this.#endTurns());
  }

  async read(request: QuickRead): Promise<boolean> {
    const { entityTag, offset, length, sizeBytes } = request;
    const isWhole = offset === 0 && length === sizeBytes;
    if (isWhole && !(this.#access.md5Tags && isMd5Tag(entityTag))) return false;
    if (this.#clock.nowMs() < this.#restsUntilMs) return false;
    const { signal } = this.#turn().late;
    try {
      const answer = await this.#pool.ask({ method: 'GET', text: this.#text(request, isWhole), signal });
      if (answer.status !== 200 && answer.status !== 206) {
        this.#restAfter(answer.status);
        answer.body.destroy();
        return false;
      }
      return await this.#take(answer, { ...request, isWhole, signal });
    } catch (error) {
      if (error instanceof UnusualAnswerError) this.#restAfter(error.status ?? 0);
      return false;
    }
  }

  close(): void {
    this.#stop();
    this.#pool.close();
  }

  #text({ key, entityTag, versionId, offset, length }: QuickRead, isWhole: boolean): string {
    const { place, region, credentials, clockOffsetMs, prefix } = this.#access;
    return requestText(
      place,
      {
        method: 'GET',
        key: s3Key(prefix, key),
        ifMatch: entityTag,
        ...(isWhole ? {} : { range: { offset, length } }),
        ...(versionId === undefined ? {} : { versionId }),
      },
      {
        ...{ credentials, region, signature: this.#signature },
        nowMs: this.#clock.wallMs() + clockOffsetMs,
      },
    );
  }

  async #take(
    answer: HttpAnswer,
    request: QuickRead & { readonly isWhole: boolean; readonly signal: AbortSignal },
  ): Promise<boolean> {
    const { length, into, signal, isWhole } = request;
    const got = gotOf(answer);
    try {
      const contentMd5 = checkedMd5(got, request);
      const bytes = into.subarray(0, length);
      await collect(got, { bytes, signal });
      return !isWhole || contentMd5 === undefined || hash('md5', bytes) === contentMd5;
    } catch {
      got.Body.destroy();
      return false;
    }
  }

  #restAfter(status: number): void {
    if (isRefusal(status)) this.#restsUntilMs = this.#clock.nowMs() + REST_MS;
    // Understood by nobody here: until others tell of another access.
    else if (status < 300) this.#restsUntilMs = Number.POSITIVE_INFINITY;
  }

  #turn(): Turn {
    const last = this.#turns.at(-1);
    const endsMs = this.#clock.nowMs() + ANSWER_MS;
    if (last !== undefined && endsMs - last.endsMs < TURN_MS) return last;
    const turn = { late: new AbortController(), endsMs };
    this.#turns.push(turn);
    return turn;
  }

  #endTurns(): void {
    const nowMs = this.#clock.nowMs();
    for (let first = this.#turns[0]; first !== undefined && first.endsMs <= nowMs; first = this.#turns[0]) {
      this.#turns.shift();
      first.late.abort(new StoreError('timeout', 'no answer in time'));
    }
  }
}

/** Of us, or of anybody: not of this object. */
function isRefusal(status: number): boolean {
  return status === 401 || status === 403 || status === 429 || status >= 500;
}

/** Of an answer that is about the version and the range that were asked for. @throws StoreError */
function checkedMd5(got: S3Got, request: QuickRead & { readonly isWhole: boolean }): string | undefined {
  const { key, entityTag, versionId, offset, length, sizeBytes, isWhole } = request;
  const asked = {
    key,
    ifMatch: entityTag,
    ...(isWhole ? {} : { range: { offset, length } }),
    ...(versionId === undefined ? {} : { versionId }),
  };
  const answered = answeredRange(asked, got);
  if (answered.length !== length || answered.sizeBytes !== sizeBytes) {
    throw new StoreError('corrupt', `${key}: another length`);
  }
  const head = headOf(key, got, answered.sizeBytes);
  expectVersion(asked, head);
  return head.contentMd5;
}

/** Fills `bytes` with a body of just that length. */
function collect(
  { Body: body }: S3Got,
  { bytes, signal }: { readonly bytes: Buffer; readonly signal: AbortSignal },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let filled = 0;
    const end = (error?: unknown): void => {
      signal.removeEventListener('abort', abort);
      if (error === undefined) resolve();
      else reject(error);
    };
    const abort = (): void => end(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    body.start({
      take(piece) {
        filled += piece.copy(bytes, filled);
        return true;
      },
      end: () => end(filled === bytes.length ? undefined : new StoreError('corrupt', 'another length')),
      fail: (error) => end(error ?? new StoreError('unavailable', 'the body broke off')),
    });
    body.resume();
  });
}
