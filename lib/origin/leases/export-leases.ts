/**
 * The leases of one export: drives the lease table with the clock, the index, and the streams of satellites, and is the
 * gate that every change of the export passes.
 *
 * What the table wants is done in its order and before anything else happens; sessions are on the disk before their
 * welcome is sent. Changes that concern nobody take no timer and no turn of the event loop of their own. A broken
 * invariant of the table stops the process: what it would grant or let happen then could not be trusted.
 */
import type { Epoch, InodeNumber, SessionId } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { describeError, invariant } from '../../base/errors.ts';
import { randomId } from '../../base/prng.ts';
import type { InodeInit } from '../../lease/lease-messages.ts';
import { LeaseTable } from '../../lease/lease-table.ts';
import type {
  Ancestors,
  ChangeId,
  CloseReason,
  LeaseEffect,
  LeaseEvent,
  LeaseView,
  RememberedSession,
  SessionView,
  StreamId,
} from '../../lease/lease-table-events.ts';
import {
  type Grant,
  LEASE_TIMING_DEFAULT,
  type LeasedName,
  type LeaseTiming,
  type NameUpdate,
  type OriginMessage,
  type SatelliteMessage,
  type Sequence,
} from '../../lease/lease.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { Change, ChangedName, ChangeGate } from '../changes/change-gate.ts';
import { LeasePlaces } from './lease-places.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';
import { SessionRows } from '../index/session-rows.ts';

const SESSION_ID_BYTES = 16;
/** Changes that are wanted and not finished; more are refused. */
const CHANGES_MAX = 10_000;
/** How long a lookup waits for the change of its name: shorter than its caller waits for it. */
const NAME_WAIT_MS = 8_000;

export interface LeaseSettings {
  readonly timing: LeaseTiming;
  /** How long nothing may have changed below a directory that is granted whole. */
  readonly quietMs: number;
}

export const LEASE_SETTINGS_DEFAULT: LeaseSettings = { timing: LEASE_TIMING_DEFAULT, quietMs: 10_000 };

/** A heartbeat every quarter of the term: three may be lost. */
export function leaseSettings(given: { readonly termMs: number; readonly quietMs: number }): LeaseSettings {
  const { termMs, quietMs } = given;
  return { timing: { ...LEASE_TIMING_DEFAULT, termMs, heartbeatMs: Math.round(termMs / 4) }, quietMs };
}

/** `slow`: it takes no more. `stopping`: the origin ends. */
export type EndReason = CloseReason | 'slow' | 'stopping';

/** The other end of a satellite's stream. */
export interface LeaseSink {
  /** @returns false if it takes no more; it is ended then */
  send(message: OriginMessage<InodeInit>): boolean;
  close(reason: EndReason, text: string): void;
}

/** What a name is now; `unknown`: the index alone cannot tell. */
export type DescribeName = (name: ChangedName) => Promise<InodeInit | 'gone' | 'unknown'>;

/** Told of sessions that come and go. */
export interface SessionWatch {
  /** A satellite goes on with another session. */
  succeeded(earlier: SessionId, session: SessionId): void;
  /** Nobody uses leases of it any more. */
  gone(session: SessionId): void;
}

interface PendingChange {
  /** Called when it may perform, or with the reason why it will not. */
  readonly settle: (error?: Error) => void;
  mayPerform: boolean;
  readonly ended: Promise<void>;
  readonly end: () => void;
}

export class ExportLeases implements ChangeGate {
  readonly settings: LeaseSettings;
  readonly #table: LeaseTable<InodeInit>;
  readonly #places: LeasePlaces;
  readonly #rows: SessionRows;
  readonly #describe: DescribeName;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #gauges;
  readonly #sinks = new Map<StreamId, LeaseSink>();
  readonly #changes = new Map<ChangeId, PendingChange>();
  #watch: SessionWatch = { succeeded: () => undefined, gone: () => undefined };
  #lastStream: StreamId = 0;
  #lastChange: ChangeId = 0;
  #wake: { readonly ms: number; readonly cancel: () => void } | undefined;
  #isClosed = false;

  constructor(options: {
    readonly exportId: number;
    readonly exportName: string;
    readonly index: NamespaceIndex;
    readonly settings: LeaseSettings;
    readonly describe: DescribeName;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
  }) {
    const { index, exportId, exportName, settings, metrics } = options;
    this.settings = settings;
    this.#places = new LeasePlaces(index, exportId);
    this.#rows = new SessionRows(index.database, exportId);
    this.#describe = options.describe;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ export: exportName });
    this.#metrics = metrics;
    this.#gauges = {
      sessions: metrics.leaseSessions.labels({ export: exportName }),
      leases: metrics.leases.labels({ export: exportName }),
      changes: metrics.leaseChangesWaiting.labels({ export: exportName }),
    };
    this.#table = new LeaseTable({ epoch: index.epoch as Epoch, ...settings });
    const awaited = this.#rows.all();
    this.#step({ kind: 'started', awaited });
    if (awaited.length > 0) {
      this.#logger.info(
        { sessions: awaited.length, waitMs: this.grace.leftMs },
        'changes wait for earlier sessions',
      );
    }
  }

  // --- Changes ---

  async run<T>(change: Change, perform: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const directories = [...change.names.map(({ directory }) => directory), ...(change.moved ?? [])];
    const { id, turn } = await this.#placed(directories.map(inodeNumber), () => this.#want(change, signal));
    try {
      if (turn !== undefined) await turn;
      return await perform();
    } finally {
      await this.#finish(id, change);
    }
  }

  underWay(directory: number, name: string): Promise<void> | undefined {
    const under = this.#table.underChange(inodeNumber(directory), name);
    return under === undefined || under.isShared ? undefined : this.#changes.get(under.change)?.ended;
  }

  withdrawnNames(directory: number): readonly string[] {
    return this.#table.namesUnderChange(inodeNumber(directory));
  }

  /** @returns undefined as `turn` if it may perform now; otherwise that resolves when it may, or fails as it will not */
  #want(
    change: Change,
    signal: AbortSignal | undefined,
  ): { readonly id: ChangeId; readonly turn?: Promise<void> } {
    if (this.#isClosed) throw stopping();
    if (this.#changes.size >= CHANGES_MAX) throw this.#tooMany();
    const id = ++this.#lastChange;
    const ended = Promise.withResolvers<void>();
    const turn = Promise.withResolvers<void>();
    const abort = (): void => turn.reject(signal?.reason as Error);
    const pending: PendingChange = {
      mayPerform: false,
      settle: (error) => {
        signal?.removeEventListener('abort', abort);
        if (error !== undefined) turn.reject(error);
        else {
          pending.mayPerform = true;
          turn.resolve();
        }
      },
      ended: ended.promise,
      end: ended.resolve,
    };
    this.#changes.set(id, pending);
    signal?.addEventListener('abort', abort, { once: true });
    this.#step({
      kind: 'change-wanted',
      change: id,
      names: change.names.map((name) => ({
        name: leasedName(name),
        ancestors: this.#placeOf(name.directory),
        isShared: name.isShared === true,
      })),
      moved: (change.moved ?? []).map((directory) => this.#placeOf(directory)),
      by: change.by,
    });
    this.#gauges.changes.set(this.#table.changes);
    if (!pending.mayPerform) return { id, turn: turn.promise };
    return { id };
  }

  async #finish(id: ChangeId, { names, moved = [] }: Change): Promise<void> {
    const updates: NameUpdate<InodeInit>[] = [];
    const places: Ancestors[] = [];
    const isHeld = names.some(({ directory }) => this.#table.isHeld(this.#placeOf(directory)));
    try {
      for (const directory of moved) this.#places.forget(inodeNumber(directory));
      if (isHeld) {
        for (const name of names) {
          const inode = await this.#describe(name);
          if (inode !== 'unknown')
            updates.push({ name: leasedName(name), inode: inode === 'gone' ? undefined : inode });
        }
      }
      for (const directory of moved.map(inodeNumber)) {
        const place = await this.#placed([directory], () => this.#places.of(directory));
        if (place !== undefined) places.push(place);
      }
    } catch (error) {
      // The names stay withdrawn for those who held them: they ask.
      this.#logger.error(
        { err: error },
        `cannot tell what names are after a change: ${describeError(error)}`,
      );
    } finally {
      this.#step({ kind: 'change-finished', change: id, updates, moved: places });
      this.#gauges.changes.set(this.#table.changes);
    }
  }

  // --- Grants ---

  /**
   * Waits while a change has the name alone, and then grants a lease that covers whatever is looked up afterwards.
   *
   * @returns undefined: the answer is to be used once, also because changes share the name
   * @throws OriginError `timeout`
   */
  async grantName(
    session: string,
    at: { readonly directory: number; readonly name: string },
  ): Promise<Grant | undefined> {
    const deadlineMs = this.#clock.nowMs() + NAME_WAIT_MS;
    const places = session === '' ? [] : [inodeNumber(at.directory)];
    for (;;) {
      const { change, grant } = await this.#placed(places, () => {
        const change = this.underWay(at.directory, at.name);
        const isFree = this.#table.underChange(inodeNumber(at.directory), at.name) === undefined;
        return { change, grant: isFree ? this.#grant(session, at.directory) : undefined };
      });
      if (change === undefined) return grant;
      await this.#within(change, deadlineMs);
    }
  }

  /** The same for all names of a directory but those that are under change, which are named. */
  grantDirectory(
    session: string,
    directory: number,
  ): Promise<{ readonly grant: Grant | undefined; readonly withdrawn: readonly string[] }> {
    return this.#placed(session === '' ? [] : [inodeNumber(directory)], () => ({
      grant: this.#grant(session, directory),
      withdrawn: this.withdrawnNames(directory),
    }));
  }

  #grant(session: string, directory: number): Grant | undefined {
    if (session === '') return undefined;
    const ancestors = this.#places.of(inodeNumber(directory));
    if (ancestors === undefined) return undefined;
    const effects = this.#step({ kind: 'grant-wanted', session: session as SessionId, ancestors });
    for (const effect of effects) if (effect.kind === 'granted') return effect.grant;
    return undefined;
  }

  async #within(change: Promise<void>, deadlineMs: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const cancel = this.#clock.after(Math.max(0, deadlineMs - this.#clock.nowMs()), () =>
      late.reject(
        new OriginError('timeout', 'the name is being changed, and a satellite has not let go of it yet', {
          hint: 'try again; perigee session list shows who owes an acknowledgement',
        }),
      ),
    );
    try {
      await Promise.race([change, late.promise]);
    } finally {
      cancel();
    }
  }

  // --- Streams ---

  /** @returns its number, for what follows */
  open(
    sink: LeaseSink,
    { tenant, address }: { readonly tenant: string; readonly address: string },
  ): StreamId {
    const stream = ++this.#lastStream;
    this.#sinks.set(stream, sink);
    this.#step({ kind: 'stream-opened', stream, tenant, address });
    if (this.#isClosed) this.#closeSink(stream, 'stopping', 'the origin is stopping');
    return stream;
  }

  /** Messages of one stream one after the other: the next when this has resolved. */
  async receive(stream: StreamId, message: SatelliteMessage): Promise<void> {
    if (message.kind !== 'hello') {
      this.#step({ kind: 'message', stream, message });
      return;
    }
    const directories = message.earlier?.reclaim.map(({ directory }) => directory) ?? [];
    await this.#placed(directories, () => {
      const places = new Map<InodeNumber, Ancestors>();
      for (const directory of directories) {
        const place = this.#places.of(directory);
        if (place !== undefined) places.set(directory, place);
      }
      const hello = { session: randomId(SESSION_ID_BYTES) as SessionId, places };
      this.#step({ kind: 'message', stream, message, hello });
    });
  }

  /** It has ended, whoever ended it. */
  broken(stream: StreamId): void {
    this.#sinks.delete(stream);
    this.#step({ kind: 'stream-broken', stream });
  }

  get isGrace(): boolean {
    return this.#table.grace.awaited > 0;
  }

  // --- Sessions ---

  watchSessions(watch: SessionWatch): void {
    this.#watch = watch;
  }

  /** Whose session it is, if it lives, or an earlier life of the origin has begun it and it may come back. */
  holderOf(session: string): RememberedSession | undefined {
    return this.#table.holderOf(session as SessionId);
  }

  /** What a session was sent last; 0 for one that does not live. */
  sequenceOf(session: string): Sequence {
    return this.#table.sequenceOf(session as SessionId) ?? 0;
  }

  // --- For people ---

  get grace(): { readonly leftMs: number; readonly awaited: number } {
    return this.#table.grace;
  }

  sessions(): Iterable<SessionView> {
    return this.#table.sessions();
  }

  leases(): Iterable<LeaseView> {
    return this.#table.leases();
  }

  /** Streams are ended; their sessions stay, and the next life of the origin waits for them. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.cancel();
    for (const stream of [...this.#sinks.keys()])
      this.#closeSink(stream, 'stopping', 'the origin is stopping');
    for (const change of this.#changes.values()) if (!change.mayPerform) change.settle(stopping());
  }

  // --- The table ---

  #step(event: LeaseEvent<InodeInit>): readonly LeaseEffect<InodeInit>[] {
    try {
      const effects = this.#table.step(event, this.#clock.nowMs());
      for (const effect of effects) this.#perform(effect);
      return effects;
    } catch (error) {
      this.#logger.fatal({ err: error }, `the lease table is broken: ${describeError(error)}`);
      // Nobody catches it there: the process ends.
      this.#clock.after(0, () => {
        throw error;
      });
      throw error;
    }
  }

  #perform(effect: LeaseEffect<InodeInit>): void {
    switch (effect.kind) {
      case 'send':
        return this.#send(effect.stream, effect.message);
      case 'close-stream':
        return this.#closeSink(effect.stream, effect.reason, effect.text);
      case 'granted':
        return this.#gauges.leases.set(this.#table.leaseCount);
      case 'change-may-perform':
        return this.#changes.get(effect.change)?.settle();
      case 'change-ended':
        this.#changes.get(effect.change)?.end();
        this.#changes.delete(effect.change);
        return;
      case 'remember-session':
        this.#rows.remember(effect.session, this.#clock.wallMs());
        if (effect.earlier !== undefined) this.#watch.succeeded(effect.earlier, effect.session.session);
        this.#gauges.sessions.set(this.#table.sessionCount);
        return;
      case 'forget-session':
        this.#rows.forget(effect.session);
        this.#watch.gone(effect.session);
        this.#gauges.sessions.set(this.#table.sessionCount);
        this.#gauges.leases.set(this.#table.leaseCount);
        return;
      case 'acknowledged':
        return this.#metrics.leaseAcknowledgementSeconds.observe(effect.afterMs / 1_000);
      case 'occurred':
        return this.#metrics.leaseOccurrences.inc({ what: effect.what });
      case 'wake-at':
        return this.#wakeAt(effect.ms);
    }
  }

  #send(stream: StreamId, message: OriginMessage<InodeInit>): void {
    this.#metrics.leaseMessages.inc({ kind: message.kind });
    const sink = this.#sinks.get(stream);
    if (sink === undefined || sink.send(message)) return;
    this.#metrics.limitReached.inc({ limit: 'lease_stream' });
    this.#closeSink(stream, 'slow', 'the satellite does not read what it is sent');
  }

  #closeSink(stream: StreamId, reason: EndReason, text: string): void {
    if (reason !== 'goodbye' && reason !== 'stopping')
      this.#logger.warn({ reason }, `lease stream ended: ${text}`);
    this.#sinks.get(stream)?.close(reason, text);
    this.#sinks.delete(stream);
  }

  #wakeAt(ms: number): void {
    if (this.#isClosed || (this.#wake !== undefined && this.#wake.ms <= ms)) return;
    this.#wake?.cancel();
    const cancel = this.#clock.after(Math.max(0, ms - this.#clock.nowMs()), () => {
      this.#wake = undefined;
      // A timer may be early by a part of a millisecond.
      if (this.#clock.nowMs() < ms) this.#wakeAt(ms);
      else this.#step({ kind: 'time-passed' });
    });
    this.#wake = { ms, cancel };
  }

  // --- Places ---

  /** Runs `then` at a moment at which the places of all these directories are remembered, but for those that are gone. */
  async #placed<R>(directories: readonly InodeNumber[], then: () => R): Promise<R> {
    const gone = new Set<InodeNumber>();
    const isOpen = (one: InodeNumber): boolean => !gone.has(one) && this.#places.of(one) === undefined;
    for (let open = directories.filter(isOpen); open.length > 0; open = directories.filter(isOpen)) {
      for (const directory of open) if (!(await this.#places.learn(directory))) gone.add(directory);
    }
    return then();
  }

  /** A directory that is gone is by itself: only who has a lease on it can hold it. */
  #placeOf(directory: number): Ancestors {
    const inode = inodeNumber(directory);
    return this.#places.of(inode) ?? [inode];
  }

  #tooMany(): OriginError {
    this.#metrics.limitReached.inc({ limit: 'changes' });
    return new OriginError('unavailable', `${CHANGES_MAX} changes wait already`, { hint: 'try again later' });
  }
}

function inodeNumber(inode: number): InodeNumber {
  invariant(inode > 0, 'a directory has a number');
  return BigInt(inode) as InodeNumber;
}

function leasedName({ directory, name, attributesOnly = false }: ChangedName): LeasedName {
  return { directory: inodeNumber(directory), name, attributesOnly };
}

function stopping(): OriginError {
  return new OriginError('unavailable', 'the origin is stopping', { hint: 'try again when it is back' });
}
