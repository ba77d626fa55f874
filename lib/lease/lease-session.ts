/** One session as the origin counts it: what it holds, what it was sent, what it owes, until when it may use names. */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { ChangeId } from './change-queue.ts';
import { Holdings } from './lease-book.ts';
import type { LeaseReference, LeaseTiming, Sequence } from './lease.ts';

/** One connection of a satellite; never used twice by one origin. */
export type StreamId = number;

/** What outlives the process, so that the next one knows whom to wait for, and how long. */
export interface RememberedSession {
  readonly session: SessionId;
  readonly tenant: string;
  readonly host: string;
  readonly termMs: number;
}

/** An acknowledgement that a session owes, and what it means when it comes. */
export interface Debt {
  readonly sentMs: number;
  /** Waits for it. */
  readonly change: ChangeId | undefined;
  /** Leave the subtree leases. */
  readonly moved: readonly InodeNumber[];
  /** Leave all leases, `subtree`: with all below; `all` stands for everything. */
  readonly recalled: readonly LeaseReference[] | 'all';
}

export class LeaseSession {
  readonly identity: RememberedSession;
  readonly labels: Readonly<Record<string, string>>;
  readonly openedMs: number;
  readonly holdings = new Holdings();
  /** The oldest first. */
  readonly owed = new Map<Sequence, Debt>();
  /** Directories in debts, each with the last of them: nothing at or below them is granted meanwhile. */
  readonly #leaving = new Map<InodeNumber, Sequence>();
  #wholeRecalls = 0;
  /** Whose names this satellite may still use, until it has acknowledged its welcome. */
  predecessor: SessionId | undefined;
  /** Began in this session's place; this one only waits for that one's acknowledgement. */
  successor: LeaseSession | undefined;
  stream: StreamId | undefined;
  address: string;
  sequence: Sequence = 0;
  expiresMs: number;

  constructor(options: {
    readonly identity: RememberedSession;
    readonly labels: Readonly<Record<string, string>>;
    readonly stream: StreamId;
    readonly address: string;
    readonly nowMs: number;
  }) {
    this.identity = options.identity;
    this.labels = options.labels;
    this.stream = options.stream;
    this.address = options.address;
    this.openedMs = options.nowMs;
    this.expiresMs = options.nowMs;
  }

  get id(): SessionId {
    return this.identity.session;
  }

  /**
   * Begins a new term now.
   *
   * @returns its length for the satellite: shorter by the age of the oldest debt, so that one who never acknowledges
   *   runs out one term after it was asked to
   */
  renew({ termMs, clockRateError }: LeaseTiming, nowMs: number): number {
    const [oldest] = this.owed.values();
    const grantedMs = Math.floor(
      oldest === undefined ? termMs : Math.max(0, termMs - (nowMs - oldest.sentMs)),
    );
    this.expiresMs = Math.max(this.expiresMs, nowMs + grantedMs * (1 + clockRateError));
    return grantedMs;
  }

  /** @returns the sequence of the message that asks for it */
  owe(debt: Debt): Sequence {
    this.owed.set(++this.sequence, debt);
    for (const directory of leavingIn(debt)) this.#leaving.set(directory, this.sequence);
    if (debt.recalled === 'all') this.#wholeRecalls += 1;
    return this.sequence;
  }

  pay(sequence: Sequence): Debt | undefined {
    const debt = this.owed.get(sequence);
    if (debt === undefined) return undefined;
    this.owed.delete(sequence);
    if (debt.recalled === 'all') this.#wholeRecalls -= 1;
    for (const directory of leavingIn(debt)) {
      if (this.#leaving.get(directory) === sequence) this.#leaving.delete(directory);
    }
    return debt;
  }

  isLeaving(directory: InodeNumber): boolean {
    return this.#leaving.has(directory);
  }

  /** Nothing at all is granted until the recall of everything is acknowledged. */
  get isRecalledWhole(): boolean {
    return this.#wholeRecalls > 0;
  }
}

function leavingIn({ moved, recalled }: Debt): readonly InodeNumber[] {
  return recalled === 'all' ? moved : [...moved, ...recalled.map(({ directory }) => directory)];
}
