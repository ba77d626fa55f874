/**
 * The only door to time. Everything that decides takes a `Clock`, so that the simulator can own it.
 * `nowMs` is monotonic; wall time is for people and file attributes and never decides anything.
 */
export interface Clock {
  /** Milliseconds since an arbitrary fixed instant; never goes back. */
  nowMs(): number;
  /** Milliseconds since 1970, for attributes and logs only. */
  wallMs(): number;
  /** Calls `run` once after `delayMs`; the returned function cancels it. Keeps the process alive only if told to. */
  after(delayMs: number, run: () => void, options?: { readonly keepAlive?: boolean }): () => void;
  /** Calls `run` every `periodMs`; the returned function stops it. Does not keep the process alive. */
  every(periodMs: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, run, options) {
    const timer = setTimeout(run, delayMs);
    if (!options?.keepAlive) timer.unref();
    return () => clearTimeout(timer);
  },
  every(periodMs, run) {
    const timer = setInterval(run, periodMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};

/** Calls `run` in a later turn of the event loop, after everything that this one still does, in the order of calls. */
export function nextTurn(run: () => void): void {
  setImmediate(run);
}

/** Resolves after `delayMs`, or rejects with the signal's reason. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    const abort = (): void => {
      cancel();
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', abort, { once: true });
  });
}
