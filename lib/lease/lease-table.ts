/**
 * The origin's side of the lease protocol, for one export: who holds what, which changes wait for whom.
 *
 * Pure: `step(event, nowMs)` changes the table and says what is to be done, in order; the driver does it (see
 * lib/origin/export-leases.ts). No clock, socket, disk or random number: identities and times come with events.
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
import { type ChangedLeasedName, type ChangeId, ChangeQueue, type OrderedChange } from './change-queue.ts';
import { LeaseBook } from './lease-book.ts';
import { type Debt, LeaseSession, type RememberedSession, type StreamId } from './lease-session.ts';
import type {
  Grant,
  LeasedName,
  LeaseReference,
  LeaseTiming,
  NameUpdate,
  OriginMessage,
  SatelliteMessage,
  Sequence,
} from './lease.ts';
import { RecentChanges } from './recent-changes.ts';

export type { Ancestors, ChangedLeasedName, ChangeId, RememberedSession, StreamId };

export type LeaseEvent<Inode> =
  /** The origin starts: sessions of its last life, whose leases may still be in use. Once, before all others. */
  | { readonly kind: 'started'; readonly awaited: readonly RememberedSession[] }
  | {
      readonly kind: 'stream-opened';
      readonly stream: StreamId;
      readonly tenant: string;
      readonly address: string;
    }
  | {
      readonly kind: 'message';
      readonly stream: StreamId;
      readonly message: SatelliteMessage;
      /** For a hello: the identity of the session if it begins one, and the places of directories to be reclaimed. */
      readonly hello?: {
        readonly session: SessionId;
        /** By directory; one that is missing is gone. */
        readonly places: ReadonlyMap<InodeNumber, Ancestors>;
      };
    }
  /** By the other side or by the network; also after `close-stream`, where it changes nothing. */
  | { readonly kind: 'stream-broken'; readonly stream: StreamId }
  /** A satellite asks about names of a directory. Answered at once by one `granted`. */
  | { readonly kind: 'grant-wanted'; readonly session: SessionId; readonly ancestors: Ancestors }
  | {
      readonly kind: 'change-wanted';
      readonly change: ChangeId;
      readonly names: readonly ChangedLeasedName[];
      /** Directories that get another place, with their place now. */
      readonly moved: readonly Ancestors[];
      /** Knows of the change and is not asked. */
      readonly by: SessionId | undefined;
    }
  /** Done, failed or given up, in any state: what the names are now, and where the moved directories are now. */
  | {
      readonly kind: 'change-finished';
      readonly change: ChangeId;
      readonly updates: readonly NameUpdate<Inode>[];
      readonly moved: readonly Ancestors[];
    }
  | { readonly kind: 'time-passed' };

/** Why a stream is ended; the first four are the satellite's fault. */
export type CloseReason =
  | 'protocol'
  | 'another-session'
  | 'flood'
  | 'hello-late'
  | 'too-many-sessions'
  | 'superseded'
  | 'expired'
  | 'goodbye';

/** What the driver counts. */
export type LeaseOccurrence = 'resumed' | 'reclaimed' | 'expired' | 'refused' | 'leases-limit' | 'recalled';

export type LeaseEffect<Inode> =
  | { readonly kind: 'send'; readonly stream: StreamId; readonly message: OriginMessage<Inode> }
  | {
      readonly kind: 'close-stream';
      readonly stream: StreamId;
      readonly reason: CloseReason;
      readonly text: string;
    }
  /** Undefined: the answer is to be used once. */
  | { readonly kind: 'granted'; readonly grant: Grant | undefined }
  | { readonly kind: 'change-may-perform'; readonly change: ChangeId }
  /** Nothing waits for it any more. */
  | { readonly kind: 'change-ended'; readonly change: ChangeId }
  /** Durable before any later effect is carried out. */
  | { readonly kind: 'remember-session'; readonly session: RememberedSession }
  | { readonly kind: 'forget-session'; readonly session: SessionId }
  | { readonly kind: 'acknowledged'; readonly afterMs: number }
  | { readonly kind: 'occurred'; readonly what: LeaseOccurrence }
  /** A `time-passed` is wanted then, also if an earlier one is wanted before. */
  | { readonly kind: 'wake-at'; readonly ms: number };

export interface LeaseTableOptions {
  readonly epoch: Epoch;
  readonly timing: LeaseTiming;
  /** How long nothing may have changed below a directory that is granted whole. */
  readonly quietMs: number;
  readonly limits?: Partial<LeaseTableLimits>;
}

export interface LeaseTableLimits {
  readonly sessions: number;
  /** Of one session: leases and directories excluded from them. Beyond it answers are used once. */
  readonly leasesPerSession: number;
  /** Directories a session may have excluded from its subtrees; beyond it all its leases are recalled. */
  readonly excludedPerSession: number;
  /** Directories remembered with the time of their last change. */
  readonly recentDirectories: number;
}

/** For people. */
export interface SessionView {
  readonly session: SessionId;
  readonly tenant: string;
  readonly host: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly connected: boolean;
  readonly openedMs: number;
  readonly expiresMs: number;
  readonly leases: number;
  readonly acknowledgementsOwed: number;
  readonly sequence: Sequence;
}

export interface LeaseView extends LeaseReference {
  readonly session: SessionId;
  readonly host: string;
  readonly sinceMs: number;
}

/** A stream that has not said hello by then is ended. */
const HELLO_DEADLINE_MS = 10_000;
/** Messages of one stream that nobody asked for, a second and at once. */
const UNASKED_PER_S = 200;
const UNASKED_AT_ONCE = 2_000;
const LIMITS_DEFAULT: LeaseTableLimits = {
  sessions: 20_000,
  leasesPerSession: 100_000,
  excludedPerSession: 10_000,
  recentDirectories: 100_000,
};

interface Stream {
  readonly id: StreamId;
  readonly tenant: string;
  readonly address: string;
  readonly openedMs: number;
  session: LeaseSession | undefined;
  /** Unasked messages that it may still send now. */
  allowance: number;
  allowanceMs: number;
}

/** `waiting`: for earlier changes, or for the end of grace. */
interface Change extends OrderedChange {
  readonly by: SessionId | undefined;
  state: 'waiting' | 'withdrawing' | 'performing';
  /** Sessions that have not acknowledged yet. */
  readonly awaited: Set<SessionId>;
}

type MessageOf<Kind> = Extract<SatelliteMessage, { readonly kind: Kind }>;
type EventOf<Inode, Kind> = Extract<LeaseEvent<Inode>, { readonly kind: Kind }>;

export class LeaseTable<Inode> {
  readonly #epoch: Epoch;
  readonly #timing: LeaseTiming;
  readonly #limits: LeaseTableLimits;
  readonly #sessions = new Map<SessionId, LeaseSession>();
  readonly #streams = new Map<StreamId, Stream>();
  readonly #book = new LeaseBook<LeaseSession>();
  readonly #changes = new ChangeQueue<Change>();
  /** Changes that have begun, by directory and name. */
  readonly #underChange = new Map<InodeNumber, Map<string, ChangeId>>();
  /** Those of them that move directories. */
  readonly #moving = new Set<Change>();
  readonly #recent: RecentChanges;
  /** Sessions of earlier lives, and who came in their place but has not acknowledged. Grace is while there are any. */
  readonly #awaited = new Map<
    SessionId,
    { readonly identity: RememberedSession; successor: LeaseSession | undefined }
  >();
  /** Could begin but for grace, in their order. */
  readonly #graceful: Change[] = [];
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
        this.#want(event);
        break;
      case 'change-finished':
        this.#finish(event);
        break;
      case 'time-passed':
        this.#passTime();
        break;
    }
    return this.#effects;
  }

  // --- What the driver may look at ---

  /** The change that makes a name unknown at this moment. */
  underChange(directory: InodeNumber, name: string): ChangeId | undefined {
    return this.#underChange.get(directory)?.get(name);
  }

  namesUnderChange(directory: InodeNumber): string[] {
    return [...(this.#underChange.get(directory)?.keys() ?? [])];
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

  get sessionCount(): number {
    return this.#sessions.size;
  }

  *sessions(): Generator<SessionView> {
    for (const session of this.#sessions.values()) {
      const { identity, labels, address, openedMs, expiresMs, holdings, owed, sequence } = session;
      yield {
        session: identity.session,
        tenant: identity.tenant,
        host: identity.host,
        address,
        labels,
        connected: session.stream !== undefined,
        openedMs,
        expiresMs,
        leases: holdings.leases.size,
        acknowledgementsOwed: owed.size,
        sequence,
      };
    }
  }

  *leases(): Generator<LeaseView> {
    for (const { identity, holdings } of this.#sessions.values()) {
      for (const [directory, { subtree, sinceMs }] of holdings.leases) {
        yield { directory, subtree, session: identity.session, host: identity.host, sinceMs };
      }
    }
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
    this.#streams.set(id, {
      id,
      tenant,
      address,
      openedMs,
      session: undefined,
      allowance: UNASKED_AT_ONCE,
      allowanceMs: openedMs,
    });
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
        if (this.#spendAllowance(stream)) this.#answerHeartbeat(session, message.number);
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
    stream: Stream,
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
    this.#effects.push({ kind: 'remember-session', session: session.identity });
    if (earlier !== undefined) this.#succeed(session, earlier.session);
    const reclaimed =
      awaited === undefined || earlier === undefined
        ? []
        : this.#reclaim(session, earlier.reclaim, hello.places);
    this.#welcome(stream, session, { resumed: false, reclaimed });
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

  #resume(stream: Stream, session: LeaseSession): void {
    session.stream = stream.id;
    session.address = stream.address;
    stream.session = session;
    this.#effects.push({ kind: 'occurred', what: 'resumed' });
    this.#welcome(stream, session, { resumed: true, reclaimed: [] });
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
    stream: Stream,
    session: LeaseSession,
    how: { readonly resumed: boolean; readonly reclaimed: readonly LeaseReference[] },
  ): void {
    const termMs = session.renew(this.#timing, this.#nowMs);
    this.#wakeBy(session.expiresMs);
    const { heartbeatMs } = this.#timing;
    const message = {
      kind: 'welcome',
      session: session.id,
      epoch: this.#epoch,
      termMs,
      heartbeatMs,
      ...how,
    } as const;
    this.#effects.push({ kind: 'send', stream: stream.id, message });
  }

  #answerHeartbeat(session: LeaseSession, number: number): void {
    const termMs = session.renew(this.#timing, this.#nowMs);
    this.#send(session, { kind: 'heartbeat-answer', number, termMs });
  }

  #acknowledge(stream: Stream, session: LeaseSession, message: MessageOf<'acknowledgement'>): void {
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
    if (change !== undefined) this.#settle(change, session.id);
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
      if (change !== undefined) this.#settle(change, session.id);
  }

  #end(session: LeaseSession, reason: CloseReason, text: string): void {
    const stream = session.stream === undefined ? undefined : this.#streams.get(session.stream);
    if (stream === undefined) return;
    this.#effects.push({ kind: 'close-stream', stream: stream.id, reason, text });
    this.#detach(stream);
  }

  #refuse(stream: Stream, reason: CloseReason, text: string): void {
    this.#effects.push({ kind: 'occurred', what: 'refused' });
    this.#effects.push({ kind: 'close-stream', stream: stream.id, reason, text });
    this.#detach(stream);
  }

  #detach(stream: Stream | undefined): void {
    if (stream === undefined) return;
    this.#streams.delete(stream.id);
    if (stream.session !== undefined) stream.session.stream = undefined;
  }

  /** Messages that answer nothing are bounded: a satellite that sends them without end is refused. */
  #spendAllowance(stream: Stream): boolean {
    const refill = ((this.#nowMs - stream.allowanceMs) / 1_000) * UNASKED_PER_S;
    stream.allowance = Math.min(UNASKED_AT_ONCE, stream.allowance + refill) - 1;
    stream.allowanceMs = this.#nowMs;
    if (stream.allowance >= 0) return true;
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
    if (ancestors.some((one) => session.isLeaving(one)) || this.#isMoving(ancestors)) return undefined;
    const lease = this.#leaseFor(session, ancestors);
    return lease === undefined ? undefined : { sequence: session.sequence, lease };
  }

  #leaseFor(session: LeaseSession, ancestors: Ancestors): LeaseReference | undefined {
    const { holdings } = session;
    const covering = holdings.covering(ancestors);
    if (covering?.subtree) return covering;
    const quiet = this.#recent.topmostQuiet(ancestors, this.#nowMs);
    if (quiet === undefined && covering !== undefined) return covering;
    const directory = quiet ?? (ancestors[0] as InodeNumber);
    const lease = { directory, subtree: quiet !== undefined };
    if (!holdings.leases.has(directory) && holdings.size >= this.#limits.leasesPerSession) {
      this.#effects.push({ kind: 'occurred', what: 'leases-limit' });
      return covering;
    }
    const at = ancestors.indexOf(directory);
    if (lease.subtree) for (const below of ancestors.slice(0, at)) holdings.excluded.delete(below);
    this.#book.add(session, lease, { ancestors: ancestors.slice(at), nowMs: this.#nowMs });
    return lease;
  }

  #isMoving(ancestors: Ancestors): boolean {
    for (const { moved } of this.#moving) {
      if (moved.some(([directory]) => ancestors.includes(directory as InodeNumber))) return true;
    }
    return false;
  }

  // --- Changes ---

  #want({ change: id, names, moved, by }: EventOf<Inode, 'change-wanted'>): void {
    const change: Change = { id, names, moved, by, state: 'waiting', awaited: new Set() };
    if (this.#changes.add(change)) this.#begin(change);
  }

  #begin(change: Change): void {
    if (this.#awaited.size > 0) {
      this.#graceful.push(change);
      return;
    }
    change.state = 'withdrawing';
    if (change.moved.length > 0) this.#moving.add(change);
    for (const { name, ancestors } of change.names) {
      const names = this.#underChange.get(name.directory) ?? new Map<string, ChangeId>();
      this.#underChange.set(name.directory, names.set(name.name, change.id));
      this.#recent.note(ancestors, this.#nowMs);
    }
    for (const [session, { names, moved }] of this.#concerned(change)) {
      if (session.id === change.by) continue;
      if (session.expiresMs <= this.#nowMs) {
        this.#expire(session);
        continue;
      }
      const sequence = session.owe({ sentMs: this.#nowMs, change: change.id, moved, recalled: [] });
      change.awaited.add(session.id);
      this.#send(session, { kind: 'withdraw', sequence, names, moved });
    }
    this.#performIfFree(change);
  }

  /** Each holder with what it may know of the names and below the moved directories. */
  #concerned(change: Change): Map<LeaseSession, { names: LeasedName[]; moved: InodeNumber[] }> {
    const concerned = new Map<LeaseSession, { names: LeasedName[]; moved: InodeNumber[] }>();
    const of = (session: LeaseSession) => {
      const known = concerned.get(session) ?? { names: [], moved: [] };
      concerned.set(session, known);
      return known;
    };
    for (const { name, ancestors } of change.names) {
      for (const session of this.#book.holders(ancestors)) of(session).names.push(name);
    }
    for (const ancestors of change.moved) {
      const directory = ancestors[0] as InodeNumber;
      for (const session of this.#book.holders(ancestors)) of(session).moved.push(directory);
      // A lease below it covers nothing else, but what it covers gets another place too.
      for (const [session, held] of this.#book.below(directory)) {
        if (held !== directory) of(session).moved.push(held);
      }
    }
    return concerned;
  }

  #settle(id: ChangeId, session: SessionId): void {
    const change = this.#changes.get(id);
    if (change?.awaited.delete(session)) this.#performIfFree(change);
  }

  #performIfFree(change: Change): void {
    if (change.state !== 'withdrawing' || change.awaited.size > 0) return;
    invariant(this.#awaited.size === 0, 'nothing changes during grace');
    change.state = 'performing';
    this.#effects.push({ kind: 'change-may-perform', change: change.id });
  }

  #finish({ change: id, updates, moved }: EventOf<Inode, 'change-finished'>): void {
    const change = this.#changes.get(id);
    invariant(change !== undefined, 'a change that finishes was wanted');
    if (change.state === 'waiting') {
      const at = this.#graceful.indexOf(change);
      if (at !== -1) this.#graceful.splice(at, 1);
    } else {
      for (const place of moved) this.#move(place, change.by);
      this.#tell(change, updates);
      this.#moving.delete(change);
      for (const { name } of change.names) {
        const names = this.#underChange.get(name.directory);
        if (names?.delete(name.name) && names.size === 0) this.#underChange.delete(name.directory);
      }
    }
    this.#effects.push({ kind: 'change-ended', change: id });
    for (const next of this.#changes.finish(id)) this.#begin(next);
  }

  #move(place: Ancestors, by: SessionId | undefined): void {
    const session = by === undefined ? undefined : this.#sessions.get(by);
    const directory = place[0] as InodeNumber;
    if (session !== undefined && session.holdings.subtrees > 0) session.holdings.excluded.add(directory);
    this.#book.rebase(place);
    this.#changes.rebase(place);
    this.#recent.note(place, this.#nowMs);
  }

  #tell(change: Change, updates: readonly NameUpdate<Inode>[]): void {
    const told = new Map<LeaseSession, NameUpdate<Inode>[]>();
    for (const update of updates) {
      const { directory, name } = update.name;
      const changed = change.names.find((one) => one.name.directory === directory && one.name.name === name);
      invariant(changed !== undefined, 'an update tells of a name of its change');
      this.#recent.note(changed.ancestors, this.#nowMs);
      for (const session of this.#book.holders(changed.ancestors)) {
        const known = told.get(session);
        if (known === undefined) told.set(session, [update]);
        else known.push(update);
      }
    }
    for (const [session, names] of told) {
      session.sequence += 1;
      this.#send(session, { kind: 'update', sequence: session.sequence, names });
    }
  }

  // --- Time ---

  #endGraceIfOver(): void {
    if (this.#awaited.size > 0) return;
    for (const change of this.#graceful.splice(0)) this.#begin(change);
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
