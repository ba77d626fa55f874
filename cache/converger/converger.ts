/**
 * Brings working copies to the origin: decides which file's turn it is, tries again what failed, keeps aside what
 * another host has taken over, and lets go of files that are done.
 *
 * How: an attempt (`convergence.ts`) is the only thing that makes versions, one at a time for each file. What a program
 * waits for is attempted at once; what is owed behind its back in the order in which it was promised, some at a time,
 * fewer while programs write; after a failure with growing pauses, for ever. A file that rests and of which nothing is
 * owed becomes its version's blob, and its write is given back.
 *
 * Invariants: the journal's row of what is owed stays until a commit was answered for, the file was unlinked, or it has
 * become a file of its own; a broken one stops the process.
 */
import PQueue from 'p-queue';
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { Clock } from '../../lib/base/clock.ts';
import { describeError, invariant } from '../../lib/base/errors.ts';
import type { Prng } from '../../lib/base/prng.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import type { Logger } from '../../lib/telemetry/log.ts';
import type { Metrics } from '../../lib/telemetry/metrics.ts';
import { CacheError } from '../block-cache.ts';
import type { Staging } from '../staging/staging.ts';
import type { WriteGrant, WriteMode } from '../working-copy.ts';
import { Changed } from './changed.ts';
import { converge, type Convergence } from './convergence.ts';
import { makeConflict } from './conflict.ts';
import { Ending } from './ending.ts';
import {
  BACK_FILES_MAX,
  BACK_FILES_WHILE_WRITING_MAX,
  CLOCK_TICK_MS,
  CLOSE_ATTEMPTS_MS,
  CONFLICTS_MAX,
  FINISHES_MAX,
  STILL_WRITTEN_MS,
  THROUGH_FILES_MAX,
} from './limits.ts';
import type { DirectoryFinder, Publisher } from './publisher.ts';
import { retryPauseMs } from './retry-pause.ts';
import { settledFromMs } from './stamps.ts';
import type { WorkingFile, WorkingFileOwner } from './working-file.ts';

export interface ConvergerOptions {
  readonly staging: Staging;
  readonly publisher: Publisher;
  readonly names: DirectoryFinder;
  /** In names of conflicts. */
  readonly host: string;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** May what is owed grow no more? Then writers wait. */
  readonly isFull: () => boolean;
  readonly onReleased: (file: WorkingFile) => void;
  readonly onReopened: (file: WorkingFile) => void;
}

/** What is being done for a file, and when it failed last. */
interface Turn {
  running: { readonly stop: AbortController; readonly ended: Promise<Convergence> } | undefined;
  failures: number;
  /** Nothing is done for it until then. */
  cancelPause: (() => void) | undefined;
}

export class Converger implements WorkingFileOwner {
  /** By the inode that each will be a version of. */
  readonly files = new Map<InodeNumber, WorkingFile>();
  readonly changed = new Changed();
  readonly conflicts: string[] = [];
  readonly #options: ConvergerOptions;
  readonly #turns = new Map<WorkingFile, Turn>();
  /** Owed behind the programs' backs and not attempted now, in the order of their promises. */
  readonly #queue = new Set<WorkingFile>();
  readonly #through = new PQueue({ concurrency: THROUGH_FILES_MAX });
  readonly #finishes = new PQueue({ concurrency: FINISHES_MAX });
  readonly #closing = new AbortController();
  readonly #ending: Ending;
  #backRunning = 0;
  #cancelPump: (() => void) | undefined;
  #isWriting = false;
  convergedFiles = 0;
  convergedBytes = 0;

  constructor(options: ConvergerOptions) {
    this.#options = options;
    this.#ending = new Ending({ ...options, signal: this.#closing.signal });
  }

  add(file: WorkingFile): void {
    invariant(!this.files.has(file.grant.inode), 'an inode has one working copy');
    this.files.set(file.grant.inode, file);
    this.#turns.set(file, { running: undefined, failures: 0, cancelPause: undefined });
  }

  async publish(file: WorkingFile, mode: WriteMode, signal: AbortSignal | undefined): Promise<void> {
    this.#refuseClosed();
    if (!file.isDirty) return;
    if (mode === 'through') return this.#publishThrough(file, signal);
    file.oweClosed();
    await file.record({ durable: false });
    this.enqueue(file);
    if (!this.#options.isFull()) return;
    this.#options.metrics.limitReached.inc({ limit: 'writeback' });
    const until =
      signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    await this.changed.until(() => file.owed === undefined || !this.#options.isFull(), until);
  }

  released(file: WorkingFile): void {
    this.#options.onReleased(file);
    if (!file.isUnlinked && file.owed?.state !== 'closed' && !file.looksCommitted()) {
      file.oweClosed();
      this.#journal(file);
    }
    this.#park(file);
    this.#settle(file);
  }

  async reopened(file: WorkingFile, signal: AbortSignal | undefined): Promise<boolean> {
    this.#refuseClosed();
    await this.changed.until(() => file.life !== 'ending', signal);
    if (file.life === 'ended') return false;
    if (file.life === 'open') return true;
    file.life = 'open';
    try {
      await file.file.resume();
    } catch (error) {
      file.life = 'resting';
      this.#settle(file);
      throw error;
    }
    this.#options.onReopened(file);
    return true;
  }

  renamed(file: WorkingFile): void {
    this.#journal(file);
  }

  unlinked(file: WorkingFile): void {
    if (file.life === 'ending' || file.life === 'ended') return;
    this.#queue.delete(file);
    const turn = this.#turn(file);
    turn.cancelPause?.();
    turn.cancelPause = undefined;
    turn.running?.stop.abort(new CacheError('closed', `${file.path} was removed`));
    this.#journal(file);
    this.#settle(file);
    this.changed.notify();
  }

  /** It is owed: its turn comes. */
  enqueue(file: WorkingFile): void {
    this.#queue.add(file);
    this.#pump();
  }

  /** It is owed, and tried now even if it waits after a failure. */
  hurry(file: WorkingFile): void {
    const turn = this.#turn(file);
    turn.cancelPause?.();
    turn.cancelPause = undefined;
    if (turn.running === undefined) this.enqueue(file);
  }

  programsWrite(isWriting: boolean): void {
    this.#isWriting = isWriting;
    this.#pump();
  }

  /** Ends all attempts, and waits a moment for their ends. What is owed stays in the journal. */
  async close(): Promise<void> {
    this.#closing.abort(closedError());
    this.#cancelPump?.();
    for (const turn of this.#turns.values()) {
      turn.cancelPause?.();
      turn.running?.stop.abort(closedError());
    }
    const attempts = Array.from(this.#turns.values(), ({ running }) => running?.ended);
    const ended = Promise.allSettled([...attempts, this.#through.onIdle(), this.#finishes.onIdle()]);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(CLOSE_ATTEMPTS_MS, resolve);
    await Promise.race([ended, late]);
    cancel();
  }

  /** The write is given back sooner or later. */
  endWrite(grant: WriteGrant): Promise<void> {
    return this.#ending.giveBack(grant);
  }

  async #publishThrough(file: WorkingFile, signal: AbortSignal | undefined): Promise<void> {
    const number = file.want();
    file.waiters += 1;
    try {
      const converged = this.#through.add(() => {
        signal?.throwIfAborted();
        return this.#convergeUpTo(file, number);
      });
      await untilAborted(converged, signal);
    } catch (error) {
      // The bytes are the writer's only ones; it was told that they are not where it wanted them.
      if (!file.isUnlinked && file.life !== 'ended') {
        file.oweClosed();
        this.#journal(file);
        this.#settle(file);
      }
      throw error;
    } finally {
      file.waiters -= 1;
    }
  }

  async #convergeUpTo(file: WorkingFile, number: number): Promise<void> {
    while (file.covered < number && !file.isUnlinked) {
      const { running } = this.#turn(file);
      if (running === undefined) {
        if ((await this.#attempt(file)) === 'changing') return;
      } else {
        // One that began before this publication does not answer for it.
        await running.ended.catch(() => undefined);
      }
    }
  }

  #attempt(file: WorkingFile): Promise<Convergence> {
    const turn = this.#turn(file);
    invariant(turn.running === undefined, 'a file is converged by one attempt at a time');
    this.#refuseClosed();
    this.#queue.delete(file);
    turn.cancelPause?.();
    turn.cancelPause = undefined;
    const stop = new AbortController();
    const ended = this.#converge(file, stop.signal).finally(() => {
      turn.running = undefined;
      this.#park(file);
      file.progress = file.failure === undefined ? 'waiting' : 'failing';
      this.#settle(file);
      this.changed.notify();
    });
    turn.running = { stop, ended };
    return ended;
  }

  async #converge(file: WorkingFile, signal: AbortSignal): Promise<Convergence> {
    const { publisher, clock, metrics } = this.#options;
    const turn = this.#turn(file);
    const before = file.base;
    try {
      const outcome = await converge(file, { publisher, clock, signal });
      if (outcome === 'changing') {
        metrics.limitReached.inc({ limit: 'converger.passes' });
        this.#pause(file, STILL_WRITTEN_MS);
      }
      if (file.base?.source !== before?.source) {
        this.convergedFiles += 1;
        this.convergedBytes += file.base!.stamp.sizeBytes;
        metrics.convergedFiles.inc();
        metrics.convergedBytes.inc(file.base!.stamp.sizeBytes);
      }
      if (file.failure !== undefined) this.#options.logger.info({ path: file.path }, 'converged after all');
      file.failure = undefined;
      turn.failures = 0;
      return outcome;
    } catch (error) {
      if (file.isUnlinked || this.#closing.signal.aborted) throw error;
      const code = error instanceof NamespaceError ? error.code : undefined;
      if (code === 'not-found') {
        this.#drop(file);
        return 'done';
      }
      this.#noteFailure(file, error);
      this.#pause(file, retryPauseMs(turn.failures, this.#options.prng));
      if (code === 'fenced') await this.#keepAside(file, signal);
      throw error;
    }
  }

  #noteFailure(file: WorkingFile, error: unknown): void {
    this.#turn(file).failures += 1;
    const failure = describeError(error);
    if (failure !== file.failure) this.#warn(file, 'not converged yet', error);
    file.failure = failure;
    this.#options.metrics.convergeFailures.inc();
  }

  /** Somebody removed it, and nothing is left to make a version of. */
  #drop(file: WorkingFile): void {
    this.#options.logger.info(
      { path: file.path },
      'removed while it was being written: its bytes are dropped',
    );
    file.unlinked();
  }

  async #keepAside(file: WorkingFile, signal: AbortSignal): Promise<void> {
    const { publisher, names, host, clock, logger, metrics } = this.#options;
    const { inode } = file.grant;
    const { mode, uid, gid } = file.attributes;
    const options = { publisher, names, host, wallMs: clock.wallMs(), file: { mode, uid, gid }, signal };
    const { path, created } = await makeConflict(file.path, options);
    const taken = file.path;
    file.taker.forgetUpload();
    file.becomeConflict(created.grant, path);
    this.files.delete(inode);
    this.files.set(created.grant.inode, file);
    await file.record({ durable: true });
    logger.error(
      { path: taken, conflict: path },
      'another host has taken the file over: its bytes are kept aside',
    );
    metrics.conflicts.inc();
    this.conflicts.push(path);
    if (this.conflicts.length > CONFLICTS_MAX) this.conflicts.shift();
    const turn = this.#turn(file);
    turn.failures = 0;
    turn.cancelPause?.();
    turn.cancelPause = undefined;
  }

  /** Decides what is next for a file for which nothing is being done. */
  #settle(file: WorkingFile): void {
    const turn = this.#turns.get(file);
    if (turn === undefined || turn.running !== undefined || turn.cancelPause !== undefined) return;
    if (file.owed?.state === 'closed') return this.enqueue(file);
    if (file.life !== 'resting') return;
    const { base } = file;
    const isCertain = file.isUnlinked || base === undefined || base.isSettled;
    const unsettledMs = isCertain ? 0 : settledFromMs(base.stamp) - this.#options.clock.wallMs();
    if (unsettledMs < 0 || isCertain) this.#finishSoon(file);
    else this.#pause(file, unsettledMs + 1);
  }

  #pause(file: WorkingFile, delayMs: number): void {
    const turn = this.#turn(file);
    turn.cancelPause ??= this.#options.clock.after(delayMs, () => {
      turn.cancelPause = undefined;
      this.#settle(file);
    });
  }

  #pump(): void {
    const { clock } = this.#options;
    const max = this.#isWriting ? BACK_FILES_WHILE_WRITING_MAX : BACK_FILES_MAX;
    for (const file of this.#queue) {
      if (this.#backRunning >= max || this.#closing.signal.aborted) return;
      // Stamps of what was written a moment ago tell too little yet.
      const earlyMs = (file.owed?.sinceMs ?? 0) + CLOCK_TICK_MS - clock.wallMs();
      if (earlyMs > 0) {
        this.#cancelPump ??= clock.after(Math.min(earlyMs, CLOCK_TICK_MS), () => {
          this.#cancelPump = undefined;
          this.#pump();
        });
        return;
      }
      this.#queue.delete(file);
      // It is looked at again when that attempt has ended.
      if (this.#turn(file).running !== undefined || file.owed === undefined) continue;
      this.#backRunning += 1;
      const ended = (): void => {
        this.#backRunning -= 1;
        this.#pump();
      };
      this.#attempt(file).then(ended, ended);
    }
  }

  #finishSoon(file: WorkingFile): void {
    void this.#finishes.add(async () => {
      const isBusy = file.life !== 'resting' || this.#turn(file).running !== undefined;
      if (isBusy || this.#closing.signal.aborted) return;
      try {
        await this.#finish(file);
      } catch (error) {
        if (!this.#closing.signal.aborted) this.#warn(file, 'not let go', error);
      } finally {
        this.changed.notify();
      }
    });
  }

  /** Lets a resting file go, if a version has all of it and nobody can write to it. */
  async #finish(file: WorkingFile): Promise<void> {
    if (file.isDirty) {
      if (file.looksCommitted()) return void (await this.#attempt(file));
      file.oweClosed();
      await file.record({ durable: false });
      return this.enqueue(file);
    }
    if (!file.isUnlinked && this.#options.staging.isWritten(file.file)) {
      return this.#pause(file, STILL_WRITTEN_MS);
    }
    file.end();
    await file.taker.idle();
    // First, so that a death between leaves a row of the journal by which the next life does it.
    await this.#ending.giveBack(file.grant);
    if ((await this.#ending.letGo(file)) === 'written') {
      // By whom, nobody can say. The write is gone: the bytes are kept aside.
      file.restAgain();
      file.oweClosed();
      this.#journal(file);
      return this.enqueue(file);
    }
    file.life = 'ended';
    this.files.delete(file.grant.inode);
    this.#turns.delete(file);
  }

  /** Thousands may wait for the origin; each would hold a descriptor. */
  #park(file: WorkingFile): void {
    const isUsed = this.#turns.get(file)?.running !== undefined || !file.taker.isIdle;
    if (file.life === 'resting' && !isUsed) file.file.park();
  }

  #journal(file: WorkingFile): void {
    file
      .record({ durable: false })
      .catch((error: unknown) => this.#warn(file, 'not journalled', error))
      .finally(() => this.#park(file));
  }

  #turn(file: WorkingFile): Turn {
    const turn = this.#turns.get(file);
    invariant(turn !== undefined, 'a working copy that was let go is not used');
    return turn;
  }

  #warn(file: WorkingFile, what: string, error: unknown): void {
    this.#options.logger.warn({ path: file.path, error: describeError(error) }, what);
  }

  #refuseClosed(): void {
    if (this.#closing.signal.aborted) throw closedError();
  }
}

function closedError(): CacheError {
  return new CacheError('closed', 'the cache is shutting down');
}

/** The promise, or the signal's reason, whichever is first. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
