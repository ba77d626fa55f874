/**
 * The satellite's namespace: answers from the facts that it holds, asks the origin for the rest, and keeps of the answers
 * what a lease covers.
 *
 * - A fact is used only before the term ends; an immutable one also after that, and one that may be stale until the origin
 *   answers again.
 * - Whoever asks what is being asked already waits for that answer, and uses it only if it was kept: an answer that is not
 *   covered says nothing about the time after its question.
 * - An origin that cannot be reached is waited for within a bound (`origin-wait.ts`).
 * - Files of this host that have no version yet are shown above all that (`pending-files.ts`).
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { VersionSource } from '../tiers/tier.ts';
import type { HeldNames } from './held-names.ts';
import { ListAhead } from './list-ahead.ts';
import type { NameCache } from './name-cache.ts';
import type {
  ExportUsage,
  InodeAttributes,
  KnownAttributes,
  KnownName,
  ListPage,
  Namespace,
  NamespaceOptions,
  NamesListener,
} from './namespace.ts';
import { OriginWait } from './origin-wait.ts';
import type { PendingFiles } from './pending-files.ts';
import type { Question } from './questions.ts';
import type { RemoteNames, RemotePage } from './remote-names.ts';

/** How long the kernel may use what never changes before it asks again; it costs one answer from memory. */
const IMMUTABLE_VALID_MS = 3_600_000;

/** What the session's driver knows. */
export interface LeaseTerm {
  /** To be named in questions; undefined: answers are used once. */
  readonly session: SessionId | undefined;
  /** Until when facts may be used, by the clock. */
  readonly validUntilMs: number;
}

export interface LeasedNamespaceOptions {
  readonly remote: RemoteNames;
  readonly held: HeldNames;
  readonly term: LeaseTerm;
  /** Counts suspension. */
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** How long operations wait for an origin that cannot be reached. */
  readonly partitionWaitMs: number;
}

export class LeasedNamespace implements Namespace {
  readonly #options: LeasedNamespaceOptions;
  readonly #cache: NameCache;
  readonly #pending: PendingFiles;
  /** For calls that change names as well. */
  readonly originWait: OriginWait;
  readonly #ahead: ListAhead;
  readonly #counters;
  /** Questions about names that others may wait for, by directory and name. */
  readonly #asked = new Map<string, Promise<unknown>>();

  constructor(options: LeasedNamespaceOptions) {
    const { clock, metrics, partitionWaitMs } = options;
    this.#options = options;
    const counter = (result: string) => metrics.nameAnswers.labels({ result });
    this.#counters = { held: counter('held'), kept: counter('kept'), once: counter('once') };
    this.#cache = options.held.cache;
    this.#pending = options.held.pending;
    this.originWait = new OriginWait({ clock, metrics, waitMs: partitionWaitMs });
    this.#ahead = new ListAhead(async (directory, page, { signal }) =>
      this.#askPage(directory, page, signal),
    );
  }

  /** The session is live again: whoever waits may ask. */
  originIsBack(): void {
    this.originWait.wake();
  }

  get isLeased(): boolean {
    return this.#options.term.session !== undefined && this.#validForMs(false) > 0;
  }

  knownName(parent: InodeNumber, name: string): KnownName | undefined {
    const own = this.#pending.at(parent, name);
    if (own !== undefined)
      return own.changing === undefined ? { attributes: own.attributes, validForMs: 0 } : undefined;
    const fact = this.#cache.name(parent, name);
    if (fact === undefined) return undefined;
    const validForMs = this.#validForMs(fact.isImmutable);
    if (validForMs <= 0 && !this.#cache.isStale) return undefined;
    this.#counters.held.inc();
    const attributes = fact.state === 'known' ? fact.attributes : undefined;
    return { attributes, validForMs: Math.max(0, validForMs) };
  }

  knownAttributes(inode: InodeNumber): KnownAttributes | undefined {
    const own = this.#pending.inode(inode);
    if (own !== undefined) return { attributes: own.attributes, validForMs: 0 };
    const fact = this.#cache.inode(inode);
    if (fact === undefined) return undefined;
    const validForMs = this.#validForMs(fact.isImmutable);
    if (validForMs <= 0 && !this.#cache.isStale) return undefined;
    this.#counters.held.inc();
    return { attributes: fact.attributes, validForMs: Math.max(0, validForMs) };
  }

  async lookup(
    parent: InodeNumber,
    name: string,
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes | undefined> {
    for (;;) {
      const own = this.#pending.at(parent, name);
      if (own === undefined) break;
      if (own.changing === undefined) return own.attributes;
      await settled(own.changing, signal);
    }
    const key = `${parent}/${name}`;
    const underWay = this.#asked.get(key);
    if (underWay !== undefined) {
      await settled(underWay, signal);
      const known = this.knownName(parent, name);
      if (known !== undefined) return known.attributes;
    }
    const answer = this.originWait.run(() => this.#askName(parent, name, signal), signal);
    if (this.#asked.has(key)) return answer;
    this.#asked.set(key, answer);
    try {
      return await answer;
    } finally {
      this.#asked.delete(key);
    }
  }

  async attributes(inode: InodeNumber, { signal }: NamespaceOptions = {}): Promise<InodeAttributes> {
    const own = this.#pending.inode(inode);
    if (own !== undefined) return own.attributes;
    return this.originWait.run(async () => {
      const { session } = this.#options.term;
      const { answer } = await this.#ask(this.#cache.ask({ kind: 'inode', inode }), {
        call: () => this.#options.remote.attributes(inode, { session, ...(signal && { signal }) }),
        keep: (question, answer) => this.#cache.keepAttributes(question, answer),
      });
      return answer.attributes;
    }, signal);
  }

  async list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    { signal }: NamespaceOptions = {},
  ): Promise<ListPage> {
    const { after = '', entriesMax } = page;
    const asked = { directory, after, entriesMax };
    const known = this.#cache.page(directory, page);
    const isHeld = this.#validForMs(this.#cache.isImmutableBelow(directory)) > 0;
    if (known !== undefined && (isHeld || this.#cache.isStale)) {
      this.#counters.held.inc();
      return this.#pending.show({ ...known, isHeld: known.isHeld && isHeld }, asked);
    }
    const view = this.#pending.view(directory);
    try {
      const answer = await this.originWait.run(() => this.#askPage(directory, asked, signal), signal);
      const { entries, next, withdrawn } = answer.page;
      const isHeld = answer.isKept && withdrawn.length === 0;
      return this.#pending.show({ entries, next, isHeld }, { ...asked, view });
    } finally {
      this.#pending.close(view);
    }
  }

  isListingHeld(directory: InodeNumber): boolean {
    if (this.#pending.isIn(directory)) return false;
    return this.#cache.isComplete(directory) && this.#validForMs(this.#cache.isImmutableBelow(directory)) > 0;
  }

  leaseText(directory: InodeNumber): string {
    const lease = this.#cache.leaseOf(directory);
    if (lease === undefined || this.#validForMs(false) <= 0) return 'none';
    if (!lease.subtree) return 'directory';
    return `subtree:/${this.#cache.pathOf(lease.directory) ?? '…'}`;
  }

  listen(listener: NamesListener): void {
    this.#options.held.listen(listener);
  }

  usage({ signal }: NamespaceOptions = {}): Promise<ExportUsage> {
    return this.originWait.run(() => this.#options.remote.usage({ ...(signal && { signal }) }), signal);
  }

  reportStale(inode: InodeNumber, source: VersionSource, options?: NamespaceOptions): Promise<void> {
    return this.#options.remote.reportStale(inode, source, options);
  }

  close(): Promise<void> {
    this.#ahead.close();
    return this.#options.remote.close();
  }

  async #askName(
    parent: InodeNumber,
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<InodeAttributes | undefined> {
    const { session } = this.#options.term;
    const { answer, isKept } = await this.#ask(this.#cache.ask({ kind: 'name', directory: parent, name }), {
      call: () => this.#options.remote.lookup(parent, name, { session, ...(signal && { signal }) }),
      keep: (question, answer) => this.#cache.keepName(question, answer),
    });
    if (isKept) this.#ahead.asked(parent, this.#cache.countAsked(parent));
    return answer.attributes;
  }

  async #askPage(
    directory: InodeNumber,
    page: { readonly after: string; readonly entriesMax: number },
    signal: AbortSignal | undefined,
  ): Promise<{ readonly page: RemotePage; readonly isKept: boolean }> {
    const { session } = this.#options.term;
    const { answer, isKept } = await this.#ask(this.#cache.ask({ kind: 'listing', directory }), {
      call: () => this.#options.remote.list(directory, page, { session, ...(signal && { signal }) }),
      keep: (question, answer) => this.#cache.keepPage(question, { ...answer, after: page.after }),
    });
    return { page: answer, isKept };
  }

  /** One question: whatever becomes of it, it does not stay open. */
  async #ask<T>(
    question: Question,
    { call, keep }: { call: () => Promise<T>; keep: (question: Question, answer: T) => boolean },
  ): Promise<{ readonly answer: T; readonly isKept: boolean }> {
    try {
      const answer = await call();
      // Whoever answers is no longer away.
      if (this.#validForMs(false) <= 0) this.#cache.forgetStale();
      const isKept = keep(question, answer);
      (isKept ? this.#counters.kept : this.#counters.once).inc();
      if (isKept) this.#options.held.shrink();
      return { answer, isKept };
    } finally {
      this.#cache.questions.end(question);
    }
  }

  #validForMs(isImmutable: boolean): number {
    if (isImmutable) return IMMUTABLE_VALID_MS;
    return this.#options.term.validUntilMs - this.#options.clock.nowMs();
  }
}

/** Resolves when `wait` settles in either way, rejects with the signal's reason. */
function settled(wait: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const abort = (): void => reject(signal?.reason as Error);
    signal?.addEventListener('abort', abort, { once: true });
    const done = (): void => {
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    wait.then(done, done);
  });
}
