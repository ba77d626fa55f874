/**
 * What the kernel keeps of our answers, and how it is made to forget.
 *
 * - It keeps nothing for longer than the lease: every validity is the rest of the term, less `MARGIN_MS`. A reply that
 *   was written later than that after its validity was computed (the process was stopped, the host suspended) is undone
 *   at once.
 * - A name is dropped by a notification that may wait for a lock of the kernel which one of our own unanswered operations
 *   holds. Nothing waits for it longer than `NOTIFICATION_WAIT_MS`: then all entries of the mount are dropped at once,
 *   which takes no lock, and neither does the dropping of attributes. So no operation of ours can hold up an
 *   acknowledgement for which, at the origin, that operation may be waiting.
 * - It keeps the listing of a directory that is held whole (`FOPEN_CACHE_DIR`), and uses it while the directory's
 *   attributes are valid. A drop of any name in the directory drops it; a pass during which that happened, or which was
 *   not held in all its parts, is dropped before the kernel hears of its end and takes it for whole.
 * - A kernel that cannot drop all entries at once (before 6.16) is told of each; an acknowledgement may then wait until
 *   the kernel's entries have expired with the term. It keeps no absent names, because those are not known by number.
 *
 * A driver without notifications keeps nothing: its validity is always 0.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { DriverConnection } from '../fuse/operations.ts';
import type { DroppedName, NamesListener } from '../namespace/namespace.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { encodeName } from './names.ts';
import type { Node, NodeTable } from './node-table.ts';

/** Covers the kernel's rounding of times and a reply that is written a little late. */
const MARGIN_MS = 100;
const NOTIFICATION_WAIT_MS = 50;

export interface KernelCacheOptions {
  readonly nodes: NodeTable;
  /** Counts suspension. */
  readonly clock: Clock;
  /** Calls back after the replies of this turn of the event loop have been written. */
  readonly nextTurn: (run: () => void) => void;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class KernelCache implements NamesListener {
  readonly #options: KernelCacheOptions;
  #connection: DriverConnection | undefined;
  /** Until when something that the kernel was given is valid. */
  #entriesUntilMs = 0;
  #isChecking = false;
  /** How often everything was dropped. */
  #dropsOfAll = 0;

  constructor(options: KernelCacheOptions) {
    this.#options = options;
  }

  connect(connection: DriverConnection | undefined): void {
    this.#connection = connection;
  }

  /** For how long the kernel may use attributes of a node; remembered. */
  attributesFor(node: Node, validForMs: number): number {
    const { validMs, untilMs } = this.#bounded(validForMs);
    if (validMs > 0) node.attributesUntilMs = Math.max(node.attributesUntilMs, untilMs);
    return validMs;
  }

  /** For how long the kernel may use a name in a directory; remembered. */
  entryFor(directory: Node, validForMs: number): number {
    const { validMs, untilMs } = this.#bounded(validForMs);
    if (validMs > 0) {
      directory.entriesUntilMs = Math.max(directory.entriesUntilMs, untilMs);
      this.#entriesUntilMs = Math.max(this.#entriesUntilMs, untilMs);
    }
    return validMs;
  }

  absenceFor(directory: Node, validForMs: number): number {
    return this.#connection?.abilities.notifications === 'all' ? this.entryFor(directory, validForMs) : 0;
  }

  /** Whether the kernel may keep the listing of a directory that is held whole; remembered. */
  keepListing(directory: Node): boolean {
    if (this.#keepsNothing) return false;
    directory.isListingKept = true;
    return true;
  }

  /** Grows with each drop that may concern the listing of a directory. */
  drops(directory: Node): number {
    return directory.drops + this.#dropsOfAll;
  }

  dropListing(directory: Node): void {
    if (!directory.isListingKept || this.#connection === undefined) return;
    this.#count('listing', this.#connection.invalidateListing(directory.id) ? 'ok' : 'failed');
  }

  /** A program of this host changed names of a directory: the kernel knows the names, not what else they were part of. */
  changed(directory: Node): void {
    directory.drops += 1;
    this.dropListing(directory);
    this.forgetAttributes(directory.inode);
  }

  /** The kernel asks again before it uses attributes of this inode. */
  forgetAttributes(inode: InodeNumber): void {
    if (this.#connection === undefined) return;
    const nowMs = this.#options.clock.nowMs();
    for (const node of this.#options.nodes.ofInode(inode))
      this.#dropAttributes(this.#connection, node, nowMs);
  }

  async drop(names: readonly DroppedName[]): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    const nowMs = this.#options.clock.nowMs();
    const notified: Promise<void>[] = [];
    for (const { directory, name, inode, attributesOnly, wasAsked } of names) {
      const nodes = inode === undefined ? undefined : this.#options.nodes.ofInode(inode);
      for (const node of nodes ?? []) this.#dropAttributes(connection, node, nowMs);
      if (attributesOnly) continue;
      // The kernel has no entry of an inode that it does not know.
      const bytes = wasAsked && nodes?.length !== 0 ? encodeName(name) : undefined;
      for (const parent of this.#options.nodes.ofInode(directory)) {
        parent.drops += 1;
        this.dropListing(parent);
        if (bytes === undefined || parent.entriesUntilMs <= nowMs) continue;
        notified.push(connection.invalidateEntry(parent.id, bytes));
      }
    }
    if (notified.length > 0) await this.#finish(connection, notified);
  }

  dropAll(): Promise<void> {
    return this.#dropValidAt(this.#options.clock.nowMs());
  }

  async dropDirectories(directories: readonly InodeNumber[]): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    const isKept = directories.some((directory) =>
      this.#options.nodes
        .ofInode(directory)
        .some(({ entriesUntilMs, isListingKept }) => isListingKept || entriesUntilMs > nowMs),
    );
    if (isKept) await this.dropAll();
  }

  get #keepsNothing(): boolean {
    return this.#connection === undefined || this.#connection.abilities.notifications === 'none';
  }

  #bounded(validForMs: number): { readonly validMs: number; readonly untilMs: number } {
    const validMs = validForMs - MARGIN_MS;
    if (validMs <= 0 || this.#keepsNothing) return { validMs: 0, untilMs: 0 };
    const nowMs = this.#options.clock.nowMs();
    this.#checkWritten(nowMs);
    return { validMs, untilMs: nowMs + validForMs };
  }

  /** The kernel counts from when a reply is written. */
  #checkWritten(computedMs: number): void {
    if (this.#isChecking) return;
    this.#isChecking = true;
    this.#options.nextTurn(() => {
      this.#isChecking = false;
      const lateMs = this.#options.clock.nowMs() - computedMs;
      if (lateMs <= MARGIN_MS) return;
      this.#options.logger.info({ lateMs }, 'a reply was late: the kernel forgets its entries');
      void this.#dropValidAt(computedMs);
    });
  }

  /** All that is, as we counted, valid at that time. */
  async #dropValidAt(atMs: number): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#dropsOfAll += 1;
    for (const node of this.#options.nodes.all()) {
      this.dropListing(node);
      // Whoever comes by a path looks the node up again; these can be asked about without a path.
      if (node.kind === 'directory' || node.opens > 0) this.#dropAttributes(connection, node, atMs);
    }
    if (this.#entriesUntilMs > atMs) await this.#dropEntries(connection);
  }

  #dropAttributes(connection: DriverConnection, node: Node, atMs: number): void {
    if (node.attributesUntilMs <= atMs) return;
    node.attributesUntilMs = 0;
    const isDone = connection.invalidateAttributes(node.id);
    this.#count('attributes', isDone ? 'ok' : 'failed');
  }

  /** Resolves when the kernel serves none of what the notifications named. */
  async #finish(connection: DriverConnection, notified: readonly Promise<void>[]): Promise<void> {
    const all = Promise.all(notified);
    const result = await new Promise<'ok' | 'late' | 'failed'>((resolve) => {
      const cancel = this.#options.clock.after(NOTIFICATION_WAIT_MS, () => resolve('late'));
      const settle = (how: 'ok' | 'failed'): void => {
        cancel();
        resolve(how);
      };
      all.then(
        () => settle('ok'),
        (error: unknown) => {
          this.#options.logger.warn({ error: describeError(error) }, 'the kernel did not drop a name');
          settle('failed');
        },
      );
    });
    this.#options.metrics.kernelNotifications.inc({ kind: 'entry', result }, notified.length);
    if (result === 'ok' || this.#dropAllAtOnce(connection)) return;
    await all.catch(() => this.#dropEachEntry(connection));
  }

  async #dropEntries(connection: DriverConnection): Promise<void> {
    if (!this.#dropAllAtOnce(connection)) await this.#dropEachEntry(connection);
  }

  #dropAllAtOnce(connection: DriverConnection): boolean {
    if (connection.abilities.notifications !== 'all') return false;
    const isDone = connection.invalidateAllEntries();
    this.#count('epoch', isDone ? 'ok' : 'failed');
    return isDone;
  }

  /** For kernels that cannot drop all at once. */
  async #dropEachEntry(connection: DriverConnection): Promise<void> {
    const waiting: Promise<void>[] = [];
    for (const { parent, name, lookups } of this.#options.nodes.all()) {
      const bytes = parent === undefined || lookups === 0 ? undefined : encodeName(name);
      if (parent !== undefined && bytes !== undefined)
        waiting.push(connection.invalidateEntry(parent.id, bytes));
    }
    await Promise.allSettled(waiting);
  }

  #count(kind: 'attributes' | 'listing' | 'epoch', result: 'ok' | 'failed'): void {
    this.#options.metrics.kernelNotifications.inc({ kind, result });
  }
}
