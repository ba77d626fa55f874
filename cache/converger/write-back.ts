/**
 * Working copies of a satellite: the ones that are open, and those that are still on their way to the origin.
 *
 * What an earlier life owes is gone on with at once: its writes are reclaimed, and what has been taken over meanwhile
 * becomes conflicts, like any other stale write.
 */
import type { InodeNumber } from '../../lib/base/brand.ts';
import { type Clock, sleep } from '../../lib/base/clock.ts';
import { describeError, invariant } from '../../lib/base/errors.ts';
import type { Prng } from '../../lib/base/prng.ts';
import type { Logger } from '../../lib/telemetry/log.ts';
import type { Metrics } from '../../lib/telemetry/metrics.ts';
import type { PartSender } from '../../lib/tiers/part-sender.ts';
import { CacheError } from '../block-cache.ts';
import type { JournalEntry, StagedFile, Staging } from '../staging/staging.ts';
import type { DirtyFile, WorkingCopy, WriteBack, WriteBackStat, WriteGrant } from '../working-copy.ts';
import { Converger } from './converger.ts';
import { type ContentSizes, InstantTaker } from './instant.ts';
import { METRICS_INTERVAL_MS, RECLAIM_RETRY_MS } from './limits.ts';
import type { DirectoryFinder, Publisher } from './publisher.ts';
import { isSettledAt, stampOf } from './stamps.ts';
import { Watch } from './watch.ts';
import { type Base, WorkingFile } from './working-file.ts';

export interface WriteBackOptions {
  readonly staging: Staging;
  readonly publisher: Publisher;
  /** Finds directories for conflicts. */
  readonly names: DirectoryFinder;
  readonly sender: PartSender;
  /** In names of conflicts. */
  readonly host: string;
  /** Of what was acknowledged and is not converged: beyond it writers wait. */
  readonly bytesMax: number;
  readonly ageMaxMs: number;
  /** Whether a program will wait for the version of that file, so that it is sent while it is being written. */
  readonly sendsAhead: (path: string) => boolean;
  readonly sizes?: ContentSizes;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export function openWriteBack(options: WriteBackOptions): WriteBack {
  const writeBack = new ConvergingWriteBack(options);
  writeBack.recover();
  return writeBack;
}

class ConvergingWriteBack implements WriteBack {
  readonly #options: WriteBackOptions;
  readonly #converger: Converger;
  readonly #watch: Watch;
  readonly #closing = new AbortController();
  readonly #stopPublishing: () => void;

  constructor(options: WriteBackOptions) {
    this.#options = options;
    const { clock, sender, sendsAhead } = options;
    const watch = (this.#watch = new Watch({
      ...{ clock, sender, sendsAhead },
      signal: this.#closing.signal,
      onWriting: (isWriting) => this.#converger.programsWrite(isWriting),
    }));
    this.#converger = new Converger({
      ...options,
      isFull: () => this.#isFull(),
      onReleased: (file) => watch.remove(file),
      onReopened: (file) => watch.add(file),
    });
    this.#stopPublishing = clock.every(METRICS_INTERVAL_MS, () => this.#publishMetrics());
  }

  recover(): void {
    const { recovered, ended } = this.#options.staging;
    const files = recovered.map(({ file, entry }) => {
      const working = this.#make(file, entry, undefined);
      working.recover(entry);
      this.#converger.add(working);
      return working;
    });
    void this.#goOn(files).catch(() => undefined);
    for (const entry of ended) void this.#giveBack(entry).catch(() => undefined);
  }

  async begin(
    grant: WriteGrant,
    file: Parameters<WriteBack['begin']>[1],
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<WorkingCopy> {
    invariant(this.of(grant.inode) === undefined, 'an inode has one working copy');
    const { staging, clock } = this.#options;
    const { path, attributes, isCommitted, from, modifiedNs } = file;
    let staged: StagedFile | undefined;
    try {
      this.#closing.signal.throwIfAborted();
      staged = await (from === undefined
        ? staging.create(grant.write)
        : staging.copyUp(grant.write, from, options));
      if (modifiedNs !== undefined) staged.setTimes({ accessedNs: modifiedNs, modifiedNs });
      const base = from !== undefined && isCommitted ? baseOf(staged, clock.wallMs()) : undefined;
      const working = this.#make(staged, { grant, path, attributes, isCommitted }, base);
      await working.record({ durable: false });
      this.#converger.add(working);
      this.#watch.add(working);
      return working;
    } catch (error) {
      if (staged !== undefined) await staging.discard(staged).catch(() => undefined);
      await this.#converger.endWrite(grant).catch(() => undefined);
      throw error;
    }
  }

  of(inode: InodeNumber): WorkingCopy | undefined {
    return this.#converger.files.get(inode);
  }

  list(): readonly DirtyFile[] {
    return Array.from(this.#converger.files.values())
      .filter((file) => file.life === 'open' || file.isDirty)
      .map((file) => file.describe())
      .sort((one, other) => other.ageMs - one.ageMs);
  }

  stat(): WriteBackStat {
    const { convergedFiles, convergedBytes, conflicts, files } = this.#converger;
    const stat = { dirtyBytes: 0, dirtyFiles: 0, openFiles: 0, oldestMs: 0, failing: 0 };
    for (const file of files.values()) {
      if (file.life === 'open') stat.openFiles += 1;
      if (!file.isDirty) continue;
      const { sizeBytes, ageMs } = file.describe();
      stat.dirtyFiles += 1;
      stat.dirtyBytes += sizeBytes;
      stat.oldestMs = Math.max(stat.oldestMs, ageMs);
      if (file.failure !== undefined) stat.failing += 1;
    }
    return { ...stat, convergedFiles, convergedBytes, conflicts: [...conflicts] };
  }

  async flush(path: string, options: Parameters<WriteBack['flush']>[1] = {}): Promise<void> {
    const { signal, onProgress } = options;
    const left = new Map<WorkingFile, number>();
    for (const file of this.#converger.files.values()) {
      if (file.owed?.state !== 'closed' || !isBelow(file.path, path)) continue;
      left.set(file, file.owed.number);
      this.#converger.hurry(file);
    }
    const isDone = (): boolean => {
      for (const [file, number] of left) {
        if (file.covered >= number || file.owed === undefined || file.life === 'ended') left.delete(file);
      }
      onProgress?.(this.stat());
      return left.size === 0;
    };
    const signals = signal === undefined ? [this.#closing.signal] : [signal, this.#closing.signal];
    await this.#converger.changed.until(isDone, AbortSignal.any(signals));
  }

  async close({ deadlineMs }: { readonly deadlineMs: number }): Promise<void> {
    const { clock, logger } = this.#options;
    this.#stopPublishing();
    this.#watch.close();
    const dirty = Array.from(this.#converger.files.values()).filter((file) => file.isDirty);
    const journalled = dirty.map((file) => {
      if (file.owed?.state !== 'closed') file.oweClosed();
      this.#converger.hurry(file);
      return file.record({ durable: true });
    });
    for (const outcome of await Promise.allSettled(journalled)) {
      if (outcome.status === 'rejected')
        logger.error({ error: describeError(outcome.reason) }, 'not journalled');
    }
    const late = new AbortController();
    const cancel = clock.after(deadlineMs, () => late.abort());
    const { files, changed } = this.#converger;
    const isDone = (): boolean => Array.from(files.values()).every((file) => file.owed === undefined);
    await changed.until(isDone, late.signal).catch(() => undefined);
    cancel();
    this.#closing.abort(new CacheError('closed', 'the cache is shutting down'));
    await this.#converger.close();
    const { dirtyFiles, dirtyBytes } = this.stat();
    if (dirtyFiles > 0)
      logger.warn({ dirtyFiles, dirtyBytes }, 'not all is converged: the next mount goes on');
  }

  #make(
    file: StagedFile,
    entry: Pick<JournalEntry, 'grant' | 'path' | 'attributes' | 'isCommitted'>,
    base: Base | undefined,
  ): WorkingFile {
    const { clock, sender, sizes, staging, publisher } = this.#options;
    const taker: InstantTaker = new InstantTaker({
      ...{ file, clock, sender, sizes, blockBytes: staging.blockBytes },
      beginUpload: (signal) => publisher.beginUpload(working.grant, { signal }),
    });
    const working: WorkingFile = new WorkingFile({ file, taker, owner: this.#converger, clock, entry, base });
    return working;
  }

  /** Files of an earlier life. */
  async #goOn(files: readonly WorkingFile[]): Promise<void> {
    if (files.length === 0) return;
    const { publisher, clock, logger } = this.#options;
    const { signal } = this.#closing;
    for (let isReclaimed = false; !isReclaimed;) {
      try {
        const good = await publisher.reclaim(
          files.map(({ grant }) => grant),
          { signal },
        );
        logger.info({ files: files.length, good: good.size }, 'going on with what an earlier life owes');
        isReclaimed = true;
      } catch (error) {
        signal.throwIfAborted();
        logger.warn({ error: describeError(error) }, 'what an earlier life owes waits for the origin');
        await sleep(clock, RECLAIM_RETRY_MS, signal);
      }
    }
    // Those that are not good any more are told so when they are committed.
    for (const file of files) if (file.owed !== undefined) this.#converger.enqueue(file);
  }

  async #giveBack(entry: JournalEntry): Promise<void> {
    await this.#converger.endWrite(entry.grant);
    this.#options.staging.forget(entry);
  }

  #isFull(): boolean {
    const { bytesMax, ageMaxMs, clock } = this.#options;
    let owedBytes = 0;
    const nowMs = clock.wallMs();
    for (const { owed } of this.#converger.files.values()) {
      if (owed?.state !== 'closed') continue;
      owedBytes += owed.sizeBytes;
      if (owedBytes > bytesMax || nowMs - owed.sinceMs > ageMaxMs) return true;
    }
    return false;
  }

  #publishMetrics(): void {
    const { dirty } = this.#options.metrics;
    const { dirtyBytes, dirtyFiles, oldestMs } = this.stat();
    dirty.set({ what: 'bytes' }, dirtyBytes);
    dirty.set({ what: 'files' }, dirtyFiles);
    dirty.set({ what: 'seconds' }, oldestMs / 1000);
  }
}

/** What a copy begins with that has the bytes of a version. */
function baseOf(file: StagedFile, wallMs: number): Base {
  const stamp = stampOf(file.stat());
  const isSettled = isSettledAt(stamp, wallMs);
  return { stamp, isSettled, revision: 0, blockChecksums: undefined, source: undefined };
}

function isBelow(path: string, directory: string): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`);
}
