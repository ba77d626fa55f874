/**
 * The one mapping of whatever fails below a tier to a `TierError`, and its plain form for the way out of a worker
 * thread: structured clone keeps neither classes nor codes. The system's errno survives as `cause.code`.
 */
import { describeError, hintOf } from '../base/errors.ts';
import { StoreError, type StoreErrorCode } from '../store/object-store.ts';
import { TierError, type TierErrorCode } from './tier.ts';

/** A `TierError` as plain data. */
export interface TierFailure {
  readonly code: TierErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly cause: { readonly message: string; readonly code: string | undefined } | undefined;
}

function tierCodeOf(code: StoreErrorCode): TierErrorCode {
  switch (code) {
    case 'precondition-failed':
    case 'not-found':
    case 'invalid-range':
      return 'stale';
    case 'access-denied':
      return 'denied';
    case 'timeout':
      return 'timeout';
    case 'corrupt':
      return 'corrupt';
    case 'no-space':
      return 'no-space';
    case 'throttled':
    case 'unavailable':
    case 'invalid-key':
    case 'unsupported':
    case 'invalid':
      return 'unavailable';
  }
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

function tierError(code: TierErrorCode, message: string, details: { cause: unknown }): TierError {
  const hint = hintOf(details.cause);
  return new TierError(code, message, { ...details, ...(hint === undefined ? {} : { hint }) });
}

/** @param what what was being done, for people: `fetching data/shard-1 [0, 4194304)` */
export function tierErrorOf(error: unknown, what: string): TierError {
  if (error instanceof TierError) return error;
  if (error instanceof StoreError) return tierError(tierCodeOf(error.code), what, { cause: error });
  return tierError('unavailable', what, { cause: error });
}

/** The sink refused: `error` is what the system said. */
export function sinkErrorOf(error: unknown): TierError {
  return tierError('sink', `writing fetched bytes (${codeOf(error) ?? 'unknown error'})`, { cause: error });
}

/** The file refused to be read. */
export function sourceErrorOf(error: unknown): TierError {
  return tierError('sink', `reading what is to be sent (${codeOf(error) ?? 'unknown error'})`, {
    cause: error,
  });
}

export function failureOf(error: TierError): TierFailure {
  const cause =
    error.cause === undefined
      ? undefined
      : { message: describeError(error.cause), code: codeOf(error.cause) };
  return { code: error.code, message: error.message, hint: hintOf(error), cause };
}

export function errorOf(failure: TierFailure): TierError {
  const { cause, hint } = failure;
  return new TierError(failure.code, failure.message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined
      ? {}
      : {
          cause: Object.assign(
            new Error(cause.message),
            cause.code === undefined ? {} : { code: cause.code },
          ),
        }),
  });
}
