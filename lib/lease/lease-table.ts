/**
 * The origin's side of the lease protocol, for one export: who holds what, which changes wait for whom.
 *
 * Pure: `step(event, nowMs)` changes the table and says what is to be done, in order; the driver does it (see
 * lib/origin/leases/export-leases.ts). No clock, socket, disk or random number: identities and times come with events.
 * `nowMs` never goes back. README.md has the protocol; the invariants are
 * - a change performs only when every other session that held one of its directories has acknowledged the withdrawal,
 *   or has ended, or has expired by this side's clock, and never during grace;
 * - changes that share a name run one after the other, in the order in which they were wanted, and so do changes and
 *   the move of a directory that they lie in: each waits for earlier ones only, so none waits for ever;
 * - a session's sequence grows by one with each withdraw, update and recall, whether somebody listens or not.
 * A broken one stops the process.
 */
import type { Epoch, InodeNumber, SessionId } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import type { Ancestors } from './ancestors.ts';
import { LeaseBook } from './lease-book.ts';
import { LeaseChanges, type UnderChange } from './lease-changes.ts';
import { type Debt, LeaseSession, type RememberedSession, type StreamId } from './lease-session.ts';
import type {
  CloseReason,
  EventOf,
  LeaseEffect,
  LeaseEvent,
  LeaseTableLimits,
  LeaseTableOptions,
  LeaseView,
  SessionView,
} from './lease-table-events.ts';
import type {
  Grant,
  LeaseReference,
  LeaseTiming,
  OriginMessage,
  SatelliteMessage,
  Sequence,
} from './lease.ts';
import { LeaseStream, UNASKED_PER_S } from './lease-stream.ts';
import { leaseViews, sessionViews } from './lease-views.ts';
import { RecentChanges } from './recent-changes.ts';

/** A stream that has not said hello by then is ended. */
const HELLO_DEADLINE_MS = 10_000;
const LIMITS_DEFAULT: LeaseTableLimits = {
  sessions: 20_000,
  leasesPerSession: 100_000,
  excludedPerSession: 10_000,
  recentDirectories: 100_000,
};

type MessageOf<Kind> = Extract<SatelliteMessage, { readonly kind: Kind }>;

export class LeaseTable<Inode> {
  readonly #epoch: Epoch;
  readonly #timing: LeaseTiming;
  readonly #limits: LeaseTableLimits;
  readonly #sessions = new Map<SessionId, LeaseSession>();
  readonly #streams = new Map<StreamId, LeaseStream>();
  readonly #book = new LeaseBook<LeaseSession>();
  readonly #changes: LeaseChanges<Inode>;
  readonly #recent: RecentChanges;
  /** Sessions of earlier lives, and who came in their place but has not acknowledged. Grace is while there are any. */
  readonly #awaited = new Map<
    SessionId,
    { readonly identity: RememberedSession; successor: LeaseSession | undefined }
  >();
  #graceUntilMs = -Infinity;
  #wakeAtMs = Infinity;
  #nowMs = -Infinity;
  #effects: LeaseEffect<Inode>[] = [];

  constructor(options: LeaseTableOptions) {
    this.#epoch = options.epoch;
    this.#timing = options.timing;
    this.#limits = { ...LIMITS_DEFAULT, ...options.limits };
    this.#recent = new RecentChanges({
      quietMs: options.quietMs,
      directoriesMax: this.#limits.recentDirectories,
    });
    this.#changes = new LeaseChanges<Inode>(
      {
        nowMs: () => this.#nowMs,
        isGrace: () => this.#awaited.size > 0,
        session: (id) => this.#sessions.get(id),
        expire: (session) => this.#expire(session),
        send: (session, message) => this.#send(session, message),
        emit: (effect) => this.#effects.push(effect),
      },
      { book: this.#book, recent: this.#recent },
    );
  }

  /** @returns what is to be done, in this order */
  step(event: LeaseEvent<Inode>, nowMs: number): readonly LeaseEffect<Inode>[] {
    invariant(nowMs >= this.#nowMs, 'time does not go back');
    this.#nowMs = nowMs;
    this.#effects = [];
    switch (event.kind) {
      case 'started':
        this.#start(event.awaited);
        break;
      case 'stream-opened':
        this.#open(event);
        break;
      case 'message':
        this.#receive(event);
        break;
      case 'stream-broken':
        this.#detach(this.#streams.get(event.stream));
        break;
      case 'grant-wanted':
        this.#effects.push({ kind: 'granted', grant: this.#grant(event) });
        break;
      case 'change-wanted':
        this.#changes.want(event);
        break;
      case 'change-finished':
        this.#changes.finish(event);
        break;
      case 'time-passed':
        this.#passTime();
        break;
    }
    return this.#effects;
  }

  // --- What the driver may look at ---

  /** The changes that make a name unknown at this moment. */
  underChange(directory: InodeNumber, name: string): UnderChange | undefined {
    return this.#changes.of(directory, name);
  }

  namesUnderChange(directory: InodeNumber): string[] {
    return this.#changes.namesOf(directory);
  }

  /** False: a change here concerns nobody and has nothing to wait for but changes of the same name. */
  isHeld(ancestors: Ancestors): boolean {
    return this.#awaited.size > 0 || this.#book.isHeld(ancestors);
  }

  get grace(): { readonly leftMs: number; readonly awaited: number } {
    const awaited = this.#awaited.size;
    return { awaited, leftMs: awaited === 0 ? 0 : Math.max(0, this.#graceUntilMs - this.#nowMs) };
  }

  /** Unfinished ones. */
  get changes(): number {
    return this.#changes.size;
  }

  get leaseCount(): number {
    return this.#book.leases;
  }

  /** Whose session it is, if it lives or an earlier life's is awaited. */
  holderOf(session: SessionId): RememberedSession | undefined {
    return this.#sessions.get(session)?.identity ?? this.#awaited.get(session)?.identity;
  }

  /** Of the last message that was sent to a session that lives. */
  sequenceOf(session: SessionId): Sequence | undefined {
    return this.#sessions.get(session)?.sequence;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  sessions(): Generator<SessionView> {
    return sessionViews(this.#sessions.values());
  }

  leases(): Generator<LeaseView> {
    return leaseViews(this.#sessions.values());
  }

  // --- Streams and sessions ---

  #start(awaited: readonly RememberedSession[]): void {
    for (const row of awaited) this.#awaited.set(row.session, { identity: row, successor: undefined });
    const termMs = Math.max(0, ...awaited.map((row) => row.termMs));
    this.#graceUntilMs = this.#nowMs + termMs * (1 + this.#timing.clockRateError);
    if (awaited.length > 0) this.#wakeBy(this.#graceUntilMs);
  }

  #open({ stream: id, tenant, address }: EventOf<Inode, 'stream-opened'>): void {
    invariant(!this.#streams.has(id), 'a stream is opened once');
    const openedMs = this.#nowMs;
    this.#streams.set(id, new LeaseStream({ id, tenant, address, openedMs }));
    this.#wakeBy(openedMs + HELLO_DEADLINE_MS);
  }

  #receive({ stream: id, message, hello }: EventOf<Inode, 'message'>): void {
    const stream = this.#streams.get(id);
    // What was under way on a stream that has been ended.
    if (stream === undefined) return;
    const { session } = stream;
    if (message.kind === 'hello') {
      if (session !== undefined) return this.#refuse(stream, 'protocol', 'a second hello');
      invariant(hello !== undefined, 'a hello comes with an identity for its session');
      return this.#greet(stream, message, hello);
    }
    if (session === undefined) return this.#refuse(stream, 'protocol', `${message.kind} before hello`);
    if (session.expiresMs <= this.#nowMs) return this.#expire(session);
    switch (message.kind) {
      case 'heartbeat':
        if (this.#spendAllowance(stream)) this.#answer(session, message);
        break;
      case 'acknowledgement':
        this.#acknowledge(stream, session, message);
        break;
      case 'release':
        if (this.#spendAllowance(stream)) this.#recall(session, message.directories);
        break;
      case 'goodbye':
        this.#confirm(session);
        this.#end(session, 'goodbye', 'the satellite has ended its session');
        this.#remove(session);
        break;
    }
  }

  #greet(
    stream: LeaseStream,
    { host, labels, earlier }: MessageOf<'hello'>,
    hello: NonNullable<EventOf<Inode, 'message'>['hello']>,
  ): void {
    const { tenant } = stream;
    const before = earlier && this.#sessions.get(earlier.session);
    const awaited = earlier && this.#awaited.get(earlier.session);
    const owner = before?.identity ?? awaited?.identity;
    if (owner !== undefined && (owner.tenant !== tenant || owner.host !== host)) {
      return this.#refuse(stream, 'another-session', `${host} of ${tenant} claims the session of another`);
    }
    if (before !== undefined && before.expiresMs <= this.#nowMs) this.#expire(before);
    else if (before !== undefined && earlier !== undefined) {
      this.#end(before, 'superseded', 'the satellite has come back on another stream');
      const missedNothing = earlier.epoch === this.#epoch && earlier.lastSequence === before.sequence;
      if (missedNothing && before.successor === undefined) return this.#resume(stream, before);
    }
    if (this.#sessions.size >= this.#limits.sessions) {
      return this.#refuse(stream, 'too-many-sessions', `${this.#limits.sessions} sessions are open`);
    }
    const session = new LeaseSession({
      identity: { session: hello.session, tenant, host, termMs: this.#timing.termMs },
      labels,
      stream: stream.id,
      address: stream.address,
      nowMs: this.#nowMs,
    });
    invariant(!this.#sessions.has(session.id), 'each session has an identity of its own');
    this.#sessions.set(session.id, session);
    stream.session = session;
    const goesOnFrom = owner === undefined ? undefined : earlier?.session;
    this.#effects.push({ kind: 'remember-session', session: session.identity, earlier: goesOnFrom });
    if (earlier !== undefined) this.#succeed(session, earlier.session);
    const reclaimed =
      awaited === undefined || earlier === undefined
        ? []
        : this.#reclaim(session, earlier.reclaim, hello.places);
    this.#welcome(session, { resumed: false, reclaimed });
  }

  /**
   * The earlier session goes on holding what it holds until this one acknowledges its welcome. So does one that began
   * in its place before: this hello may have been delayed behind that one's.
   */
  #succeed(session: LeaseSession, earlier: SessionId): void {
    let last = this.#sessions.get(earlier) ?? this.#awaited.get(earlier);
    if (last === undefined) return;
    session.predecessor = earlier;
    for (; last.successor !== undefined; last = last.successor) session.predecessor = last.successor.id;
    last.successor = session;
  }

  #resume(stream: LeaseStream, session: LeaseSession): void {
    session.stream = stream.id;
    session.address = stream.address;
    stream.session = session;
    this.#effects.push({ kind: 'occurred', what: 'resumed' });
    this.#welcome(session, { resumed: true, reclaimed: [] });
  }

  /** Nothing has changed since an earlier life granted these. */
  #reclaim(
    session: LeaseSession,
    wanted: readonly LeaseReference[],
    places: ReadonlyMap<InodeNumber, Ancestors>,
  ): LeaseReference[] {
    const reclaimed: LeaseReference[] = [];
    for (const lease of wanted) {
      const ancestors = places.get(lease.directory);
      if (ancestors === undefined || session.holdings.size >= this.#limits.leasesPerSession) continue;
      this.#book.add(session, lease, { ancestors, nowMs: this.#nowMs });
      reclaimed.push(lease);
    }
    if (reclaimed.length > 0) this.#effects.push({ kind: 'occurred', what: 'reclaimed' });
    return reclaimed;
  }

  #welcome(
    session: LeaseSession,
    how: { readonly resumed: boolean; readonly reclaimed: readonly LeaseReference[] },
  ): void {
    const termMs = session.renew(this.#timing, this.#nowMs);
    this.#wakeBy(session.expiresMs);
    const facts = { session: session.id, epoch: this.#epoch, termMs, heartbeatMs: this.#timing.heartbeatMs };
    this.#send(session, { kind: 'welcome', ...facts, ...how });
  }

  #answer(session: LeaseSession, { number }: MessageOf<'heartbeat'>): void {
    const termMs = session.renew(this.#timing, this.#nowMs);
    this.#send(session, { kind: 'heartbeat-answer', number, termMs });
  }

  #acknowledge(stream: LeaseStream, session: LeaseSession, message: MessageOf<'acknowledgement'>): void {
    const { sequence, released } = message;
    if (sequence === 0) {
      if (this.#spendAllowance(stream)) this.#confirm(session);
      return;
    }
    if (sequence > session.sequence) {
      return this.#refuse(
        stream,
        'protocol',
        `an acknowledgement of message ${sequence}, which was never sent`,
      );
    }
    const debt = session.pay(sequence);
    if (debt === undefined) {
      // Sent again after a resumption.
      this.#spendAllowance(stream);
      return;
    }
    this.#effects.push({ kind: 'acknowledged', afterMs: this.#nowMs - debt.sentMs });
    this.#applyDebt(session, debt);
    this.#recall(session, released);
  }

  #applyDebt(session: LeaseSession, { change, moved, recalled }: Debt): void {
    const { holdings } = session;
    const { excluded } = holdings;
    const left = [...moved];
    if (recalled === 'all') this.#book.dropAll(session);
    else {
      for (const { directory, subtree } of recalled) {
        this.#book.drop(session, directory);
        if (subtree) left.push(directory);
      }
    }
    if (holdings.subtrees > 0) for (const directory of left) excluded.add(directory);
    if (excluded.size > this.#limits.excludedPerSession && !session.isRecalledWhole) {
      this.#sendRecall(session, 'all');
    }
    if (change !== undefined) this.#changes.settle(change, session.id);
  }

  /** Takes directories back that the satellite has asked not to be told of. */
  #recall(session: LeaseSession, directories: readonly InodeNumber[]): void {
    const { leases, excluded } = session.holdings;
    const subtree = session.holdings.subtrees > 0;
    const recalled = directories
      .filter((one) => !session.isLeaving(one) && (leases.has(one) || (subtree && !excluded.has(one))))
      .map((directory) => ({ directory, subtree }));
    if (recalled.length === 0 || session.isRecalledWhole) return;
    this.#sendRecall(session, recalled);
  }

  #sendRecall(session: LeaseSession, recalled: readonly LeaseReference[] | 'all'): void {
    const sequence = session.owe({ sentMs: this.#nowMs, change: undefined, moved: [], recalled });
    this.#effects.push({ kind: 'occurred', what: 'recalled' });
    this.#send(session, { kind: 'recall', sequence, leases: recalled === 'all' ? [] : recalled });
  }

  /** The satellite uses nothing of any earlier session any more. */
  #confirm(session: LeaseSession): void {
    for (let id = session.predecessor; id !== undefined;) {
      const predecessor = this.#sessions.get(id);
      if (predecessor !== undefined) {
        this.#end(predecessor, 'superseded', 'a later session of the satellite has taken its place');
        this.#remove(predecessor);
      } else if (this.#awaited.delete(id)) {
        this.#effects.push({ kind: 'forget-session', session: id });
        this.#endGraceIfOver();
      }
      id = predecessor?.predecessor;
    }
    session.predecessor = undefined;
  }

  #expire(session: LeaseSession): void {
    this.#effects.push({ kind: 'occurred', what: 'expired' });
    this.#end(
      session,
      'expired',
      'the session was not renewed in time, or owed an acknowledgement for too long',
    );
    this.#remove(session);
  }

  /** Nobody waits for the session any more, and it holds nothing. */
  #remove(session: LeaseSession): void {
    invariant(session.stream === undefined, 'a session is removed after its stream has ended');
    this.#sessions.delete(session.id);
    this.#book.dropAll(session);
    this.#effects.push({ kind: 'forget-session', session: session.id });
    const { predecessor: id } = session;
    const predecessor = id && (this.#sessions.get(id) ?? this.#awaited.get(id));
    if (predecessor && predecessor.successor === session) predecessor.successor = undefined;
    for (const { change } of session.owed.values())
      if (change !== undefined) this.#changes.settle(change, session.id);
  }

  #end(session: LeaseSession, reason: CloseReason, text: string): void {
    const stream = session.stream === undefined ? undefined : this.#streams.get(session.stream);
    if (stream === undefined) return;
    this.#effects.push({ kind: 'close-stream', stream: stream.id, reason, text });
    this.#detach(stream);
  }

  #refuse(stream: LeaseStream, reason: CloseReason, text: string): void {
    this.#effects.push({ kind: 'occurred', what: 'refused' });
    this.#effects.push({ kind: 'close-stream', stream: stream.id, reason, text });
    this.#detach(stream);
  }

  #detach(stream: LeaseStream | undefined): void {
    if (stream === undefined) return;
    this.#streams.delete(stream.id);
    if (stream.session !== undefined) stream.session.stream = undefined;
  }

  /** Messages that answer nothing are bounded: a satellite that sends them without end is refused. */
  #spendAllowance(stream: LeaseStream): boolean {
    if (stream.spend(this.#nowMs)) return true;
    this.#refuse(stream, 'flood', `more than ${UNASKED_PER_S} messages a second`);
    return false;
  }

  /** A session without a stream uses up the number all the same: it cannot be resumed, as it has missed something. */
  #send(session: LeaseSession, message: OriginMessage<Inode>): void {
    if (session.stream !== undefined) this.#effects.push({ kind: 'send', stream: session.stream, message });
  }

  // --- Leases ---

  #grant({ session: id, ancestors }: EventOf<Inode, 'grant-wanted'>): Grant | undefined {
    const session = this.#sessions.get(id);
    const [directory] = ancestors;
    if (session === undefined || directory === undefined) return undefined;
    if (session.expiresMs <= this.#nowMs || session.successor !== undefined || session.isRecalledWhole)
      return undefined;
    if (ancestors.some((one) => session.isLeaving(one)) || this.#changes.isMoving(ancestors))
      return undefined;
    const quiet = this.#recent.topmostQuiet(ancestors, this.#nowMs);
    const sizeMax = this.#limits.leasesPerSession;
    const lease = this.#book.cover(session, ancestors, { quiet, sizeMax, nowMs: this.#nowMs });
    if (lease === undefined) this.#effects.push({ kind: 'occurred', what: 'leases-limit' });
    return lease === undefined ? undefined : { sequence: session.sequence, lease };
  }

  // --- Time ---

  #endGraceIfOver(): void {
    if (this.#awaited.size === 0) this.#changes.endGrace();
  }

  #wakeBy(ms: number): void {
    if (ms >= this.#wakeAtMs) return;
    this.#wakeAtMs = ms;
    this.#effects.push({ kind: 'wake-at', ms });
  }

  #passTime(): void {
    if (this.#nowMs < this.#wakeAtMs) return;
    this.#wakeAtMs = Infinity;
    for (const stream of [...this.#streams.values()]) {
      if (stream.session !== undefined) continue;
      const deadlineMs = stream.openedMs + HELLO_DEADLINE_MS;
      if (deadlineMs <= this.#nowMs) this.#refuse(stream, 'hello-late', 'no hello within the deadline');
      else this.#wakeBy(deadlineMs);
    }
    for (const session of [...this.#sessions.values()]) {
      if (session.expiresMs <= this.#nowMs) this.#expire(session);
      else this.#wakeBy(session.expiresMs);
    }
    if (this.#awaited.size === 0) return;
    if (this.#nowMs < this.#graceUntilMs) return this.#wakeBy(this.#graceUntilMs);
    for (const session of this.#awaited.keys()) {
      this.#effects.push({ kind: 'occurred', what: 'expired' });
      this.#effects.push({ kind: 'forget-session', session });
    }
    this.#awaited.clear();
    this.#endGraceIfOver();
  }
}
