/**
 * What the origin's messages, and changes of this host, do to names: they leave the cache at once, then whoever keeps
 * answers beyond their turn, and when that is done a message counts as applied. The one place where the cache and its
 * listener are kept in step.
 *
 * Messages are applied each in a turn of the event loop of their own (`lease-session.ts` sees to that), so that what was
 * read from the cache before has reached the kernel by then, and is dropped there.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { LeaseReference, NameUpdate, OriginMessage } from '../lease/lease.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Dropped, NameCache } from './name-cache.ts';
import type { InodeAttributes, NamesListener } from './namespace.ts';
import type { ChangeAnswer, OwnChange } from './own-changes.ts';
import { PendingFiles } from './pending-files.ts';

type OfKind<Kind> = Extract<OriginMessage<InodeAttributes>, { readonly kind: Kind }>;

export interface HeldNamesOptions {
  readonly cache: NameCache;
  readonly metrics: Metrics;
  /** Asks the origin to take back what was given up. */
  readonly onReleased: (directories: readonly InodeNumber[]) => void;
  /** Hears what names have become by changes of others. */
  readonly onUpdated?: (names: readonly NameUpdate<InodeAttributes>[]) => void;
}

const DEAF: NamesListener = {
  drop: async () => undefined,
  dropAll: async () => undefined,
  dropDirectories: async () => undefined,
};

export class HeldNames {
  readonly cache: NameCache;
  /** Names that are this host's alone. */
  readonly pending = new PendingFiles();
  readonly #metrics: Metrics;
  readonly #onReleased: (directories: readonly InodeNumber[]) => void;
  readonly #onUpdated: (names: readonly NameUpdate<InodeAttributes>[]) => void;
  #listener = DEAF;
  #shrinking = false;
  /** All that was told so far has reached whom it concerns. */
  #told: Promise<void> = Promise.resolve();

  constructor(options: HeldNamesOptions) {
    this.cache = options.cache;
    this.#metrics = options.metrics;
    this.#onReleased = options.onReleased;
    this.#onUpdated = options.onUpdated ?? (() => undefined);
  }

  listen(listener: NamesListener): void {
    this.#listener = listener;
  }

  /** Resolves when nothing serves the names, with the directories of the message that are not known here. */
  async withdraw(message: OfKind<'withdraw'>): Promise<readonly InodeNumber[]> {
    const { released, ...dropped } = this.cache.withdraw(message);
    this.#metrics.namesWithdrawn.inc(message.names.length);
    await this.#tell(dropped);
    return released;
  }

  update(message: OfKind<'update'>): void {
    this.#metrics.namesUpdated.inc(message.names.length);
    void this.#tell(this.cache.update(message));
    this.shrink();
    this.#onUpdated(message.names);
  }

  async recall(message: OfKind<'recall'>): Promise<void> {
    await this.#tell(this.cache.recall(message.leases, message.sequence));
  }

  /** The session is lost, less what these leases cover and, if the origin cannot be reached, what may be stale. */
  async drop(keep: readonly LeaseReference[], options: { readonly withStale?: boolean } = {}): Promise<void> {
    await this.#tell(this.cache.dropAll(keep, options));
  }

  /** Other paths are immutable, or may be stale, from now on. */
  async judgeAnew(): Promise<void> {
    await this.#tell(this.cache.forgetAll());
  }

  /**
   * This satellite is about to change names. In a turn of its own, as for messages. Resolves when nothing serves them:
   * at once for a change by the kernel, which holds locks that telling it may wait for, and which of such changes is
   * told only what needs no lock.
   */
  async begin(change: OwnChange): Promise<void> {
    const told = this.#tell(this.cache.begin(change));
    if (!change.isKernels) await told;
  }

  /** @param answer undefined: nothing has changed */
  end(change: OwnChange, answer: ChangeAnswer | undefined): void {
    void this.#tell(this.cache.end(change, answer));
    this.shrink();
  }

  /** The kernel does not learn how a change of its own ends. */
  doubt(change: OwnChange): void {
    if (change.isKernels) void this.#tell(this.cache.doubt(change));
  }

  /** Called after something was kept. */
  shrink(): void {
    this.#metrics.namesCached.set(this.cache.size);
    if (this.#shrinking) return;
    const given = this.cache.shrink();
    if (given.length === 0) return;
    this.#metrics.limitReached.inc({ limit: 'names_cached' });
    this.#shrinking = true;
    void this.#after(this.#listener.dropDirectories(given)).then(() => {
      this.#shrinking = false;
      this.#onReleased(given);
    });
  }

  #tell({ everything, names }: Dropped): Promise<void> {
    this.#metrics.namesCached.set(this.cache.size);
    if (everything) return this.#after(this.#listener.dropAll());
    return names.length === 0 ? this.#told : this.#after(this.#listener.drop(names));
  }

  /** What was forgotten before is found no more, and may still be on its way out of the kernel. */
  #after(telling: Promise<void>): Promise<void> {
    this.#told = Promise.all([this.#told, telling]).then(() => undefined);
    return this.#told;
  }
}
