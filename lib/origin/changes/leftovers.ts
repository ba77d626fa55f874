/**
 * Empties keys that no name has any more: those of removed names, and of renamed ones after their bytes were moved.
 *
 * Guarantees: a name is gone or renamed as soon as the index says so, whatever its size; until the store has followed,
 * the keys are `occupied`, so that nothing found there is taken for a name, and a new object at such a key waits for
 * it (`freed`). Rows of the index keep the work over a restart. An object is deleted only if it is still the one that
 * was meant; below a removed directory everything is.
 * Failures of the store are tried again, with growing pauses, as long as it takes.
 */
import PQueue from 'p-queue';
import type { Clock } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { Leftover } from '../index/index-changes.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';
import type { StoreCalls } from '../tree/store-calls.ts';

/** Keys that may wait to be emptied; more changes that leave some are refused. */
const LEFTOVERS_MAX = 100_000;
const EMPTIED_AT_ONCE = 16;
const DELETES_AT_ONCE = 32;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A move that waits for another looks again after this time, and then more and more rarely. */
const LATER_FIRST_MS = 20;
/** How long a new object waits for its key. */
const FREED_DEADLINE_MS = 60_000;

/** Another key must be emptied first. */
export class Later extends Error {
  constructor(key: string) {
    super(`${key} is not free yet`);
  }
}

/** Moves what lies at a key to where its name says, so that nothing of value is left there. */
export type Relocate = (leftover: Leftover, signal: AbortSignal) => Promise<void>;

interface Work {
  readonly leftover: Leftover;
  readonly waiting: (() => void)[];
  attempts: number;
}

export class Leftovers {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #store: StoreCalls;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #work = new Map<string, Work>();
  readonly #queue = new PQueue({ concurrency: EMPTIED_AT_ONCE });
  /** Moves of one export follow each other: one may concern what another moves. */
  readonly #moves = new PQueue({ concurrency: 1 });
  readonly #closing = new AbortController();
  /** Keys that are just being emptied. */
  readonly #running = new Set<string>();
  /** Keys that a move is just writing to. */
  readonly #held = new Map<string, Promise<void>>();
  #relocate: Relocate | undefined;

  constructor(options: {
    readonly exportId: number;
    readonly index: NamespaceIndex;
    readonly store: StoreCalls;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
  }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
    for (const leftover of this.#index.changes.leftovers(this.#exportId)) {
      this.#set({ leftover, waiting: [], attempts: 0 });
    }
  }

  /** What lies at this key is no evidence for a name. */
  has(key: string): boolean {
    return this.#work.has(key) || this.#held.has(key);
  }

  get(key: string): Leftover | undefined {
    return this.#work.get(key)?.leftover;
  }

  isHeld(key: string): boolean {
    return this.#held.has(key);
  }

  /** Until the returned function is called, what lies at the key means nothing. */
  hold(key: string): () => void {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = () => {
        if (this.#held.get(key) === held) this.#held.delete(key);
        resolve();
      };
    });
    this.#held.set(key, held);
    return release;
  }

  /** Goes on with what an earlier life has left. */
  start(relocate: Relocate): void {
    this.#relocate = relocate;
    for (const work of this.#work.values()) this.#enqueue(work);
  }

  /** Before a change that leaves keys. @throws OriginError */
  admit(): void {
    if (this.#work.size < LEFTOVERS_MAX) return;
    throw new OriginError('unavailable', 'too many removed keys wait for the object store', {
      hint: 'try again when the store has followed',
    });
  }

  /** After the transaction that recorded them. */
  add(leftovers: readonly Leftover[]): void {
    for (const leftover of leftovers) {
      const work = { leftover, waiting: this.#work.get(leftover.key)?.waiting ?? [], attempts: 0 };
      this.#set(work);
      this.#enqueue(work);
    }
  }

  /** After the transaction that took it back: the key is a name's own again. */
  cancel(key: string): void {
    const work = this.#work.get(key);
    if (this.#work.delete(key)) this.#metrics.originLeftovers.dec();
    for (const resolve of work?.waiting ?? []) resolve();
  }

  /** Resolves when nothing lies at the key any more. @throws OriginError `unavailable` after a bounded time */
  async freed(key: string): Promise<void> {
    await this.#held.get(key);
    const work = this.#work.get(key);
    if (work === undefined) return;
    this.#enqueue(work, 1);
    await new Promise<void>((resolve, reject) => {
      const cancelTimer = this.#clock.after(FREED_DEADLINE_MS, () => {
        const hint = 'try again later: the object store is still being tidied up';
        reject(new OriginError('unavailable', `what was at ${key} before is not gone yet`, { hint }));
      });
      work.waiting.push(() => {
        cancelTimer();
        resolve();
      });
    });
  }

  /** Resolves when nothing is left that the store lets us do now. For tests and orderly ends. */
  async idle(): Promise<void> {
    while (this.#queue.size + this.#queue.pending + this.#moves.size + this.#moves.pending > 0) {
      await Promise.all([this.#queue.onIdle(), this.#moves.onIdle()]);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new OriginError('unavailable', 'the origin ends'));
    this.#queue.clear();
    this.#moves.clear();
    await this.idle();
  }

  #set(work: Work): void {
    if (!this.#work.has(work.leftover.key)) this.#metrics.originLeftovers.inc();
    this.#work.set(work.leftover.key, work);
  }

  #enqueue(work: Work, priority = 0): void {
    if (this.#relocate === undefined || this.#closing.signal.aborted) return;
    const queue = work.leftover.inode === undefined ? this.#queue : this.#moves;
    void queue.add(() => this.#run(work), { priority });
  }

  async #run(work: Work): Promise<void> {
    const { leftover } = work;
    const isCurrent = (): boolean => this.#work.get(leftover.key) === work;
    // A second one would go on to delete when the first has let the key go and something new lies there.
    if (!isCurrent() || this.#running.has(leftover.key) || this.#closing.signal.aborted) return;
    this.#running.add(leftover.key);
    try {
      this.#expectNoMoveBelow(leftover.key);
      if (leftover.inode !== undefined) await this.#relocate?.(leftover, this.#closing.signal);
      if (!isCurrent()) return;
      await this.#empty(leftover);
      if (!isCurrent()) return;
      this.#index.changes.durably((rows) => rows.deleteLeftover(this.#exportId, leftover.key));
      this.cancel(leftover.key);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      this.#again(work, error);
    } finally {
      this.#running.delete(leftover.key);
      const next = this.#work.get(leftover.key);
      if (next !== undefined && next !== work) this.#enqueue(next);
    }
  }

  #again(work: Work, error: unknown): void {
    const isLater = error instanceof Later;
    const firstMs = isLater ? LATER_FIRST_MS : RETRY_FIRST_MS;
    const pauseMs = Math.min(firstMs * 2 ** work.attempts++, RETRY_MAX_MS);
    if (!isLater) {
      this.#logger.warn(
        { key: work.leftover.key, attempts: work.attempts },
        `a key could not be emptied, next attempt in ${pauseMs / 1000} s: ${describeError(error)}`,
      );
    }
    this.#clock.after(pauseMs, () => this.#enqueue(work));
  }

  /** What was renamed out of a directory before the directory went is still of value. */
  #expectNoMoveBelow(key: string): void {
    if (!key.endsWith('/')) return;
    for (const [other, { leftover }] of this.#work) {
      if (leftover.inode !== undefined && other !== key && other.startsWith(key)) throw new Later(other);
    }
  }

  async #empty({ key, entityTag, inode }: Leftover): Promise<void> {
    if (!key.endsWith('/')) return this.#store.delete(key, entityTag);
    // A move has emptied what it moved; what it found removed is removed here.
    const deletes = new PQueue({ concurrency: DELETES_AT_ONCE });
    for (;;) {
      this.#closing.signal.throwIfAborted();
      this.#expectNoMoveBelow(key);
      const page = await this.#store.list({ prefix: key });
      if (page.objects.length === 0) return;
      if (inode !== undefined) throw new Later(key);
      await deletes.addAll(page.objects.map((object) => () => this.#store.delete(object.key, undefined)));
    }
  }
}
