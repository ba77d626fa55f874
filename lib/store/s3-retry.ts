/**
 * Repeats an attempt until it succeeds, fails for good, or the call's deadline leaves no time for another one.
 *
 * Waits grow exponentially with full jitter, longer where the server is overloaded, and never less than what it
 * asked for by Retry-After. Each attempt has a bound of its own, so that one that is never answered is repeated.
 * Invariants: at most ATTEMPTS_MAX attempts; no attempt or wait begins that would outlast the deadline; the error
 * of the last attempt is the one that is thrown.
 */
import { type Clock } from '../base/clock.ts';
import { type Prng } from '../base/prng.ts';
import { abortReason, type CallScope } from './call-deadline.ts';
import { type CallOptions, StoreError } from './object-store.ts';
import { type S3Failure, s3FailureOf } from './s3-errors.ts';

export const ATTEMPTS_MAX = 8;
/** A refused clock is corrected by the SDK when one of its own requests meets it, so the second one counts. */
const RESIGNED_MAX = 2;
const BACKOFF_MS = { soon: { first: 50, max: 2000 }, slowly: { first: 250, max: 8000 } } as const;
/** To the first byte of an answer, besides the time that a request's own bytes take. */
const ATTEMPT_MS = 15_000;
/** A request body is given the time that it takes at this speed. */
const UPLOAD_BYTES_PER_MS_MIN = 256;

export interface RetryContext {
  readonly what: string;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly scope: CallScope;
  /** Of the request's body. */
  readonly bodyBytes?: number;
}

export interface Attempt {
  /** From 0. */
  readonly number: number;
  /** An earlier attempt may have taken effect although it failed. */
  readonly maybeDone: boolean;
  readonly signal: AbortSignal;
}

/** Runs one request of a call, with retries. */
export type S3Caller = <T>(
  call: { readonly what: string; readonly options: CallOptions | undefined; readonly bodyBytes?: number },
  run: (attempt: Attempt) => Promise<T>,
) => Promise<T>;

export async function withRetries<T>(
  context: RetryContext,
  run: (attempt: Attempt) => Promise<T>,
): Promise<T> {
  const { clock, prng, scope, what } = context;
  let maybeDone = false;
  for (let number = 0; ; number++) {
    let failure: S3Failure;
    try {
      return await boundedAttempt(context, (signal) => run({ number, maybeDone, signal }));
    } catch (error) {
      if (scope.signal.aborted) throw abortReason(scope.signal);
      failure = s3FailureOf(error, { what, wallMs: clock.wallMs() });
    }
    const { error, retry } = failure;
    if (retry === 'never' || number + 1 >= ATTEMPTS_MAX || (retry === 'resigned' && number >= RESIGNED_MAX))
      throw error;
    const delayMs = delayOf(failure, { number, prng });
    if (clock.nowMs() + delayMs >= scope.deadlineAtMs) throw error;
    maybeDone ||= error.code === 'unavailable' || error.code === 'timeout' || error.code === 'corrupt';
    await pause(clock, { delayMs, signal: scope.signal });
  }
}

function delayOf(failure: S3Failure, at: { readonly number: number; readonly prng: Prng }): number {
  if (failure.retry === 'resigned') return 0;
  const { first, max } = BACKOFF_MS[failure.retry === 'slowly' ? 'slowly' : 'soon'];
  const ceilingMs = Math.min(max, first * 2 ** at.number);
  return Math.max(failure.retryAfterMs ?? 0, at.prng.next() * ceilingMs);
}

/** Unlike a `sleep`, keeps the process alive: between attempts nothing else may. */
function pause(
  clock: Clock,
  wait: { readonly delayMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const { delayMs, signal } = wait;
  return new Promise((resolve, reject) => {
    const cancel = clock.after(
      delayMs,
      () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      },
      { keepAlive: true },
    );
    const onAbort = (): void => {
      cancel();
      reject(abortReason(signal));
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

async function boundedAttempt<T>(
  context: RetryContext,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { clock, scope, what, bodyBytes = 0 } = context;
  const boundMs = ATTEMPT_MS + bodyBytes / UPLOAD_BYTES_PER_MS_MIN;
  if (clock.nowMs() + boundMs >= scope.deadlineAtMs) return run(scope.signal);
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(abortReason(scope.signal));
  scope.signal.addEventListener('abort', onAbort, { once: true });
  const cancelTimer = clock.after(boundMs, () =>
    controller.abort(new StoreError('timeout', `${what}: no answer within ${Math.round(boundMs)} ms`)),
  );
  try {
    return await run(controller.signal);
  } catch (error) {
    throw controller.signal.aborted ? abortReason(controller.signal) : error;
  } finally {
    cancelTimer();
    scope.signal.removeEventListener('abort', onAbort);
  }
}
