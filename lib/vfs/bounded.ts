/**
 * Bounds a wait by a deadline and by the interruption of the program that waits. What is waited for gets a signal that
 * covers both, and the wait ends at the bound even if that signal is ignored.
 */
import type { Clock } from '../base/clock.ts';
import { STORE_DEADLINE_MS } from '../base/limits.ts';
import { VfsError } from './vfs-error.ts';

/** Those below have deadlines of their own, and theirs is the better message: ours come a little later. */
const GRACE_MS = 5_000;
export const READ_DEADLINE_MS = STORE_DEADLINE_MS + GRACE_MS;

export interface Bound {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** @throws VfsError `interrupted` or `timeout`, else what `run` throws. */
export function bounded<T>(clock: Clock, bound: Bound, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { deadlineMs, signal } = bound;
  if (signal.aborted) return Promise.reject(new VfsError('interrupted', 'interrupted before it began'));
  return new Promise<T>((resolve, reject) => {
    const controller = new AbortController();
    const fail = (error: VfsError): void => {
      end();
      reject(error);
      controller.abort(error);
    };
    const interrupt = (): void => fail(new VfsError('interrupted', 'interrupted while waiting'));
    const cancel = clock.after(deadlineMs, () =>
      fail(new VfsError('timeout', `no answer within ${deadlineMs} ms`)),
    );
    const end = (): void => {
      cancel();
      signal.removeEventListener('abort', interrupt);
    };
    signal.addEventListener('abort', interrupt, { once: true });
    run(controller.signal).then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        reject(error);
      },
    );
  });
}
