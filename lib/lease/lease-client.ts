/**
 * The satellite's side of the lease protocol: one session with one export of one origin, over streams that come and go.
 *
 * Pure: `step(event, nowMs)` changes the machine and says what the driver is to do, in order. `nowMs` is a clock that
 * counts suspension. It guarantees
 * - names may be used only before `validUntilMs`, which counts from when a message was sent, less the clock rate error;
 * - when the term ends, a message is missing, or the origin no longer knows the session, everything is dropped first
 *   and the origin is told of it only after the driver has said so;
 * - an acknowledgement is sent only after the driver has said that it is applied, the kernel included, and is sent
 *   again after a resumption unless an answer shows that it arrived.
 * What is held and which answers may be kept is the name cache's business (README.md, rules 1 and 2).
 */
import type { Epoch, InodeNumber, SessionId } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import type { LeaseReference, OriginMessage, SatelliteMessage, Sequence } from './lease.ts';

type MessageOf<Inode, Kind> = Extract<OriginMessage<Inode>, { readonly kind: Kind }>;

export type LeaseClientEvent<Inode> =
  | { readonly kind: 'start' }
  /** The stream that was asked for is open. */
  | {
      readonly kind: 'connected';
      readonly host: string;
      readonly labels: Readonly<Record<string, string>>;
      /** Leases held, which an origin that was restarted is asked for. */
      readonly held: readonly LeaseReference[];
    }
  /** The stream has ended, by whomever, or could not be opened. Once a stream. `jitter` is from 0 to 1. */
  | { readonly kind: 'stream-broken'; readonly jitter: number }
  | { readonly kind: 'message'; readonly message: OriginMessage<Inode> }
  /**
   * Nothing, the kernel included, serves what this withdraw or recall of this session named: also not because an earlier
   * message made it leave the cache and it is still on its way out of the kernel.
   */
  | {
      readonly kind: 'applied';
      readonly session: SessionId;
      readonly sequence: Sequence;
      readonly released: readonly InodeNumber[];
    }
  /** A `drop` is done, the kernel included. */
  | { readonly kind: 'dropped'; readonly drop: number }
  /** The driver would rather not be told of these directories any more. The origin recalls them. */
  | { readonly kind: 'released'; readonly directories: readonly InodeNumber[] }
  | { readonly kind: 'time-passed' }
  /** The mount has ended: nothing is served any more. */
  | { readonly kind: 'closing' };

/** `expired`: the term has ended. `gap`: messages are missing. `new-session`: the origin did not resume. */
export type DropReason = 'expired' | 'gap' | 'new-session';

export type LeaseClientEffect<Inode> =
  | { readonly kind: 'open-stream' }
  | { readonly kind: 'end-stream'; readonly reason: string }
  | { readonly kind: 'send'; readonly message: SatelliteMessage }
  /** To be forgotten at once; then the kernel's; then `applied`. */
  | {
      readonly kind: 'apply-withdraw';
      readonly session: SessionId;
      readonly message: MessageOf<Inode, 'withdraw'>;
    }
  | {
      readonly kind: 'apply-recall';
      readonly session: SessionId;
      readonly message: MessageOf<Inode, 'recall'>;
    }
  | { readonly kind: 'apply-update'; readonly message: MessageOf<Inode, 'update'> }
  /**
   * Everything is to be forgotten at once, then the kernel's; then `dropped`. What `keep` covers may stay, but no
   * absence and no complete listing of it may, and its sequences begin again at 0.
   */
  | {
      readonly kind: 'drop';
      readonly drop: number;
      readonly reason: DropReason;
      readonly keep: readonly LeaseReference[];
    }
  /** Names the session in questions from now on; undefined: answers are used once. */
  | { readonly kind: 'session'; readonly session: SessionId | undefined }
  | { readonly kind: 'set-term'; readonly validUntilMs: number }
  /** A `time-passed` is wanted then; replaces the last one. */
  | { readonly kind: 'wake-at'; readonly ms: number };

/**
 * `waiting`: until the next attempt. `connecting`: a stream is being opened. `greeting`: a hello is unanswered.
 * `ending`: this side has ended the stream and waits to hear that it is gone.
 */
export type LeaseClientState =
  | { readonly kind: 'waiting'; readonly retryAtMs: number }
  | { readonly kind: 'connecting'; readonly sinceMs: number }
  | { readonly kind: 'greeting'; readonly sentMs: number }
  | { readonly kind: 'live' }
  | { readonly kind: 'ending' }
  | { readonly kind: 'closed' };

/** For the opening of a stream, and for the answer to a hello. */
const GREETING_DEADLINE_MS = 10_000;
/** A stream is given up when a heartbeat is unanswered for so many periods. */
const SILENT_HEARTBEATS = 2;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;

interface Acknowledgement {
  readonly sequence: Sequence;
  readonly released: readonly InodeNumber[];
  /** An answer to this heartbeat or a later one shows that the origin has it; undefined: not sent on this stream. */
  shownBy: number | undefined;
}

export class LeaseClient<Inode> {
  readonly #clockRateError: number;
  readonly #successorOf: SessionId | undefined;
  #state: LeaseClientState = { kind: 'waiting', retryAtMs: Infinity };
  #session: { readonly id: SessionId; readonly epoch: Epoch; lastSequence: Sequence } | undefined;
  #validUntilMs = -Infinity;
  /** Something may be kept that ends with the term. */
  #mayHold = false;
  #acknowledgements: Acknowledgement[] = [];
  /** The drop after which the welcome is to be acknowledged. */
  #dropOwed: number | undefined;
  #drops = 0;
  /** Since a heartbeat was answered. */
  #attempts = 0;
  #heartbeatMs = 0;
  #heartbeatDueMs = Infinity;
  /** The number of the last one; numbers are never used again. */
  #heartbeat = 0;
  /** When each unanswered heartbeat of this stream was sent; the oldest first. */
  readonly #unanswered = new Map<number, number>();
  #wakeAtMs = Infinity;
  #nowMs = -Infinity;
  #effects: LeaseClientEffect<Inode>[] = [];

  /** @param options.successorOf the session of an earlier life of this satellite, of which nothing is served any more */
  constructor(options: { readonly clockRateError: number; readonly successorOf?: SessionId | undefined }) {
    this.#clockRateError = options.clockRateError;
    this.#successorOf = options.successorOf;
  }

  get state(): LeaseClientState {
    return this.#state;
  }

  /** Named in questions; undefined: answers are used once. */
  get session(): SessionId | undefined {
    return this.#session?.id;
  }

  /** Names may be used before this time only. */
  get validUntilMs(): number {
    return this.#validUntilMs;
  }

  step(event: LeaseClientEvent<Inode>, nowMs: number): readonly LeaseClientEffect<Inode>[] {
    invariant(nowMs >= this.#nowMs, 'time does not go back');
    this.#nowMs = nowMs;
    this.#effects = [];
    if (this.#state.kind !== 'closed') {
      // Before anything else: a process that was stopped finds its term over before it does what came meanwhile.
      this.#expireIfDue();
      this.#handle(event);
      this.#wake();
    }
    return this.#effects;
  }

  #handle(event: LeaseClientEvent<Inode>): void {
    switch (event.kind) {
      case 'start':
        this.#connect();
        break;
      case 'connected':
        this.#greet(event);
        break;
      case 'stream-broken':
        this.#retry(event.jitter);
        break;
      case 'message':
        this.#receive(event.message);
        break;
      case 'applied':
        if (event.session === this.#session?.id) this.#acknowledge(event.sequence, event.released);
        break;
      case 'dropped':
        if (event.drop === this.#dropOwed) {
          this.#dropOwed = undefined;
          this.#acknowledge(0, []);
        }
        break;
      case 'released':
        // Without a stream it is lost, and the origin goes on telling: that costs messages, nothing else.
        if (this.#state.kind === 'live') this.#send({ kind: 'release', directories: event.directories });
        break;
      case 'time-passed':
        this.#passTime();
        break;
      case 'closing':
        if (this.#state.kind === 'live') this.#send({ kind: 'goodbye' });
        if (this.#state.kind !== 'waiting')
          this.#effects.push({ kind: 'end-stream', reason: 'the mount ends' });
        this.#state = { kind: 'closed' };
        this.#setTerm(-Infinity);
        break;
    }
  }

  #connect(): void {
    this.#state = { kind: 'connecting', sinceMs: this.#nowMs };
    this.#effects.push({ kind: 'open-stream' });
  }

  #greet({ host, labels, held }: Extract<LeaseClientEvent<Inode>, { kind: 'connected' }>): void {
    if (this.#state.kind !== 'connecting') return;
    this.#state = { kind: 'greeting', sentMs: this.#nowMs };
    const session = this.#session ?? this.#lastLife();
    const earlier =
      session === undefined
        ? undefined
        : { session: session.id, epoch: session.epoch, lastSequence: session.lastSequence, reclaim: held };
    this.#send({ kind: 'hello', host, labels, earlier });
  }

  /** Never resumed, since no epoch is 0: what was told to that life is not known here. */
  #lastLife():
    { readonly id: SessionId; readonly epoch: Epoch; readonly lastSequence: Sequence } | undefined {
    const id = this.#successorOf;
    return id === undefined ? undefined : { id, epoch: 0 as Epoch, lastSequence: 0 };
  }

  #retry(jitter: number): void {
    if (this.#state.kind === 'waiting') return;
    const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(this.#attempts++, 16));
    this.#state = { kind: 'waiting', retryAtMs: this.#nowMs + delayMs * (0.5 + jitter / 2) };
    this.#unanswered.clear();
    this.#heartbeatDueMs = Infinity;
  }

  #receive(message: OriginMessage<Inode>): void {
    const { kind } = this.#state;
    // What was under way on a stream that this side has ended.
    if (kind === 'ending' || kind === 'waiting') return;
    if ((message.kind === 'welcome') !== (kind === 'greeting'))
      return this.#fault(`${message.kind} while ${kind}`);
    switch (message.kind) {
      case 'welcome':
        this.#welcome(message);
        break;
      case 'heartbeat-answer':
        this.#renew(message.number, message.termMs);
        break;
      case 'withdraw':
        this.#inOrder(message.sequence, (session) => ({ kind: 'apply-withdraw', session, message }));
        break;
      case 'recall':
        this.#inOrder(message.sequence, (session) => ({ kind: 'apply-recall', session, message }));
        break;
      case 'update':
        this.#inOrder(message.sequence, () => ({ kind: 'apply-update', message }));
        break;
    }
  }

  #welcome({ session, epoch, termMs, heartbeatMs, resumed, reclaimed }: MessageOf<Inode, 'welcome'>): void {
    const earlier = this.#session ?? this.#lastLife();
    invariant(this.#state.kind === 'greeting', 'a welcome answers a hello');
    const { sentMs } = this.#state;
    if (resumed && (session !== earlier?.id || epoch !== earlier.epoch)) {
      return this.#fault('the origin resumes a session that is not ours');
    }
    this.#state = { kind: 'live' };
    this.#heartbeatMs = heartbeatMs;
    this.#heartbeatDueMs = this.#nowMs + heartbeatMs;
    if (resumed) {
      for (const one of this.#acknowledgements) this.#sendAcknowledgement(one);
    } else {
      this.#session = { id: session, epoch, lastSequence: 0 };
      this.#acknowledgements = [];
      if (earlier !== undefined) this.#dropOwed = this.#drop('new-session', reclaimed);
      this.#effects.push({ kind: 'session', session });
      this.#validUntilMs = -Infinity;
    }
    this.#extendTerm(sentMs, termMs);
  }

  #renew(number: number, termMs: number): void {
    const sentMs = this.#unanswered.get(number);
    if (sentMs === undefined) return;
    this.#attempts = 0;
    for (const earlier of this.#unanswered.keys()) if (earlier <= number) this.#unanswered.delete(earlier);
    this.#acknowledgements = this.#acknowledgements.filter(
      ({ shownBy }) => shownBy === undefined || shownBy > number,
    );
    this.#extendTerm(sentMs, termMs);
  }

  #inOrder(sequence: Sequence, effect: (session: SessionId) => LeaseClientEffect<Inode>): void {
    const session = this.#session;
    invariant(session !== undefined, 'a live stream has a session');
    if (sequence !== session.lastSequence + 1) {
      this.#drop('gap', []);
      this.#effects.push({ kind: 'session', session: undefined });
      this.#setTerm(-Infinity);
      return this.#fault(`message ${sequence} after ${session.lastSequence}`);
    }
    session.lastSequence = sequence;
    this.#effects.push(effect(session.id));
  }

  /** The next hello names the session; the origin finds out whether it can be resumed. */
  #fault(reason: string): void {
    this.#effects.push({ kind: 'end-stream', reason });
    this.#state = { kind: 'ending' };
  }

  #acknowledge(sequence: Sequence, released: readonly InodeNumber[]): void {
    const acknowledgement: Acknowledgement = { sequence, released, shownBy: undefined };
    this.#acknowledgements.push(acknowledgement);
    if (this.#state.kind === 'live') this.#sendAcknowledgement(acknowledgement);
  }

  #sendAcknowledgement(acknowledgement: Acknowledgement): void {
    const { sequence, released } = acknowledgement;
    acknowledgement.shownBy = this.#heartbeat + 1;
    this.#send({ kind: 'acknowledgement', sequence, released });
  }

  #extendTerm(sentMs: number, termMs: number): void {
    this.#setTerm(Math.max(this.#validUntilMs, sentMs + termMs * (1 - this.#clockRateError)));
    this.#mayHold = true;
    this.#expireIfDue();
  }

  #setTerm(validUntilMs: number): void {
    this.#validUntilMs = validUntilMs;
    this.#effects.push({ kind: 'set-term', validUntilMs });
  }

  #expireIfDue(): void {
    if (!this.#mayHold || this.#nowMs < this.#validUntilMs) return;
    this.#drop('expired', []);
  }

  #drop(reason: DropReason, keep: readonly LeaseReference[]): number {
    this.#mayHold = false;
    const drop = ++this.#drops;
    this.#effects.push({ kind: 'drop', drop, reason, keep });
    // What an unfinished drop was to be told for, this one is good for as well.
    if (this.#dropOwed !== undefined) this.#dropOwed = drop;
    return drop;
  }

  #passTime(): void {
    const state = this.#state;
    if (state.kind === 'waiting' && this.#nowMs >= state.retryAtMs) this.#connect();
    else if (state.kind === 'connecting' && this.#nowMs >= state.sinceMs + GREETING_DEADLINE_MS) {
      this.#fault('the origin cannot be reached');
    } else if (state.kind === 'greeting' && this.#nowMs >= state.sentMs + GREETING_DEADLINE_MS) {
      this.#fault('the origin does not answer a hello');
    } else if (state.kind === 'live') {
      if (this.#nowMs >= this.#silentMs()) return this.#fault('the origin does not answer heartbeats');
      if (this.#nowMs >= this.#heartbeatDueMs) this.#beat();
    }
  }

  #beat(): void {
    this.#heartbeat += 1;
    this.#unanswered.set(this.#heartbeat, this.#nowMs);
    this.#heartbeatDueMs = this.#nowMs + this.#heartbeatMs;
    this.#send({ kind: 'heartbeat', number: this.#heartbeat });
  }

  #silentMs(): number {
    const [oldest = Infinity] = this.#unanswered.values();
    return oldest + SILENT_HEARTBEATS * this.#heartbeatMs;
  }

  #send(message: SatelliteMessage): void {
    this.#effects.push({ kind: 'send', message });
  }

  #wake(): void {
    const ms = Math.min(this.#deadlineMs(), this.#mayHold ? this.#validUntilMs : Infinity);
    if (ms === this.#wakeAtMs) return;
    this.#wakeAtMs = ms;
    this.#effects.push({ kind: 'wake-at', ms });
  }

  #deadlineMs(): number {
    switch (this.#state.kind) {
      case 'waiting':
        return this.#state.retryAtMs;
      case 'connecting':
        return this.#state.sinceMs + GREETING_DEADLINE_MS;
      case 'greeting':
        return this.#state.sentMs + GREETING_DEADLINE_MS;
      case 'live':
        return Math.min(this.#heartbeatDueMs, this.#silentMs());
      case 'ending':
      case 'closed':
        return Infinity;
    }
  }
}
