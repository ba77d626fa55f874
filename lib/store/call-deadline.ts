/**
 * Bounds one call of a store: whatever happens inside, the caller gets an answer within `deadlineMs` or as soon
 * as its own signal fires. The work inside is told by a signal, but not waited for.
 */
import { type Clock } from '../base/clock.ts';
import { STORE_DEADLINE_MS } from '../base/limits.ts';
import { type CallOptions, StoreError } from './object-store.ts';

export interface CallScope {
  /** Fires with a `StoreError` of code `timeout`, or with the caller's own reason. */
  readonly signal: AbortSignal;
  /** On the clock that was given. */
  readonly deadlineAtMs: number;
}

export interface Call {
  readonly clock: Clock;
  /** For messages. */
  readonly what: string;
  readonly options: CallOptions | undefined;
  /** Fires when the store is closed. */
  readonly closing: AbortSignal;
}

export async function withinDeadline<T>(call: Call, run: (scope: CallScope) => Promise<T>): Promise<T> {
  const { clock, what, options } = call;
  const signals = signalsOf(call);
  for (const signal of signals) if (signal.aborted) throw abortReason(signal);
  const deadlineMs = options?.deadlineMs ?? STORE_DEADLINE_MS;
  const controller = new AbortController();
  const listeners = new Map<AbortSignal, () => void>();
  let cancelTimer: (() => void) | undefined;
  const stopped = new Promise<never>((_, reject) => {
    const stop = (reason: Error): void => {
      reject(reason);
      controller.abort(reason);
    };
    cancelTimer = clock.after(deadlineMs, () => stop(deadlinePassed(what, deadlineMs)));
    for (const signal of signals) {
      const onAbort = (): void => stop(abortReason(signal));
      signal.addEventListener('abort', onAbort, { once: true });
      listeners.set(signal, onAbort);
    }
  });
  try {
    return await Promise.race([
      run({ signal: controller.signal, deadlineAtMs: clock.nowMs() + deadlineMs }),
      stopped,
    ]);
  } finally {
    cancelTimer?.();
    for (const [signal, onAbort] of listeners) signal.removeEventListener('abort', onAbort);
  }
}

export function deadlinePassed(what: string, deadlineMs: number): StoreError {
  return new StoreError('timeout', `${what}: no answer within ${deadlineMs} ms`, {
    hint: 'check that the store is reachable and not overloaded',
  });
}

/** What ends a call early, besides its deadline. */
export function signalsOf(call: Pick<Call, 'options' | 'closing'>): AbortSignal[] {
  return call.options?.signal ? [call.options.signal, call.closing] : [call.closing];
}

export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
