/**
 * Looks at the files that are open for write, since nobody tells us what the kernel writes into them: as long as they
 * change, little is sent behind the programs' backs; and what their writers have passed is sent ahead, where a program
 * will wait for the version.
 */
import type { Clock } from '../../lib/base/clock.ts';
import type { PartSender } from '../../lib/tiers/part-sender.ts';
import type { FileStamp } from '../staging/staging.ts';
import { WATCH_INTERVAL_MS, WRITING_MS } from './limits.ts';
import { isSameStamp, stampOf } from './stamps.ts';
import type { WorkingFile } from './working-file.ts';

export interface WatchOptions {
  readonly clock: Clock;
  readonly sender: PartSender;
  /** Of files of which a program will wait for the version. */
  readonly sendsAhead: (path: string) => boolean;
  /** Aborted at the end. */
  readonly signal: AbortSignal;
  readonly onWriting: (isWriting: boolean) => void;
}

export class Watch {
  readonly #options: WatchOptions;
  readonly #seen = new Map<WorkingFile, FileStamp>();
  #stop: (() => void) | undefined;
  #writingUntilMs = 0;
  #isWriting = false;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  get isWriting(): boolean {
    return this.#isWriting;
  }

  add(file: WorkingFile): void {
    this.#seen.set(file, stampOf(file.stat()));
    this.#stop ??= this.#options.clock.every(WATCH_INTERVAL_MS, () => this.#look());
  }

  remove(file: WorkingFile): void {
    this.#seen.delete(file);
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#seen.clear();
  }

  #look(): void {
    const { clock, signal, sendsAhead, onWriting, sender } = this.#options;
    const nowMs = clock.nowMs();
    for (const [file, before] of this.#seen) {
      const now = stampOf(file.stat());
      if (isSameStamp(before, now)) continue;
      this.#seen.set(file, now);
      this.#writingUntilMs = nowMs + WRITING_MS;
      if (!file.isUnlinked && sendsAhead(file.path)) void file.taker.sendAhead(signal);
    }
    const isWriting = nowMs < this.#writingUntilMs;
    if (isWriting !== this.#isWriting) {
      this.#isWriting = isWriting;
      sender.yieldToWriters(isWriting);
      onWriting(isWriting);
    }
    if (this.#seen.size === 0 && !isWriting) {
      this.#stop?.();
      this.#stop = undefined;
    }
  }
}
