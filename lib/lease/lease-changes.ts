/**
 * The changes of one export, from wanted to finished: each begins in its turn and after grace, withdraws its names from
 * all who hold them, performs when nobody uses them any more, and tells at its end what they are now.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import type { Ancestors } from './ancestors.ts';
import { type ChangedLeasedName, type ChangeId, ChangeQueue, type OrderedChange } from './change-queue.ts';
import type { LeaseBook } from './lease-book.ts';
import type { LeaseSession } from './lease-session.ts';
import type { EventOf, LeaseEffect } from './lease-table-events.ts';
import type { LeasedName, NameUpdate, OriginMessage } from './lease.ts';
import type { RecentChanges } from './recent-changes.ts';

/** `waiting`: for earlier changes, or for the end of grace. */
interface Change extends OrderedChange {
  readonly by: SessionId | undefined;
  state: 'waiting' | 'withdrawing' | 'performing';
  /** Sessions that have not acknowledged yet. */
  readonly awaited: Set<SessionId>;
}

export interface UnderChange {
  readonly change: ChangeId;
  /** Whoever asks meanwhile need not wait for the end, but nobody may keep the answer. */
  readonly isShared: boolean;
}

/** What changes need of the table that they are part of. */
export interface ChangeHost<Inode> {
  readonly nowMs: () => number;
  readonly isGrace: () => boolean;
  readonly session: (id: SessionId) => LeaseSession | undefined;
  readonly expire: (session: LeaseSession) => void;
  readonly send: (session: LeaseSession, message: OriginMessage<Inode>) => void;
  readonly emit: (effect: LeaseEffect<Inode>) => void;
}

export class LeaseChanges<Inode> {
  readonly #host: ChangeHost<Inode>;
  readonly #book: LeaseBook<LeaseSession>;
  readonly #recent: RecentChanges;
  readonly #queue = new ChangeQueue<Change>();
  /** Changes that have begun, by directory and name: one that has the name alone, or those that share it. */
  readonly #underChange = new Map<InodeNumber, Map<string, Set<Change>>>();
  /** Those of them that move directories. */
  readonly #moving = new Set<Change>();
  /** Could begin but for grace, in their order. */
  readonly #graceful: Change[] = [];

  constructor(
    host: ChangeHost<Inode>,
    options: { readonly book: LeaseBook<LeaseSession>; readonly recent: RecentChanges },
  ) {
    this.#host = host;
    this.#book = options.book;
    this.#recent = options.recent;
  }

  /** Unfinished ones. */
  get size(): number {
    return this.#queue.size;
  }

  /** The changes that make a name unknown at this moment, and whether they share it. */
  of(directory: InodeNumber, name: string): UnderChange | undefined {
    const [change] = this.#underChange.get(directory)?.get(name) ?? [];
    if (change === undefined) return undefined;
    const isOf = (one: ChangedLeasedName): boolean =>
      one.name.directory === directory && one.name.name === name;
    return { change: change.id, isShared: change.names.filter(isOf).every((one) => one.isShared === true) };
  }

  namesOf(directory: InodeNumber): string[] {
    return [...(this.#underChange.get(directory)?.keys() ?? [])];
  }

  /** The directory lies at or below one that is being moved. */
  isMoving(ancestors: Ancestors): boolean {
    for (const { moved } of this.#moving) {
      if (moved.some(([directory]) => ancestors.includes(directory as InodeNumber))) return true;
    }
    return false;
  }

  endGrace(): void {
    for (const change of this.#graceful.splice(0)) this.#begin(change);
  }

  want({ change: id, names, moved, by }: EventOf<Inode, 'change-wanted'>): void {
    const change: Change = { id, names, moved, by, state: 'waiting', awaited: new Set() };
    if (this.#queue.add(change)) this.#begin(change);
  }

  #begin(change: Change): void {
    if (this.#host.isGrace()) {
      this.#graceful.push(change);
      return;
    }
    change.state = 'withdrawing';
    const nowMs = this.#host.nowMs();
    if (change.moved.length > 0) this.#moving.add(change);
    for (const { name, ancestors } of change.names) {
      const names = this.#underChange.get(name.directory) ?? new Map<string, Set<Change>>();
      this.#underChange.set(name.directory, names);
      names.set(name.name, (names.get(name.name) ?? new Set()).add(change));
      this.#recent.note(ancestors, nowMs);
    }
    for (const [session, { names, moved }] of this.#concerned(change)) {
      if (session.id === change.by) continue;
      if (session.expiresMs <= nowMs) {
        this.#host.expire(session);
        continue;
      }
      const sequence = session.owe({ sentMs: nowMs, change: change.id, moved, recalled: [] });
      change.awaited.add(session.id);
      this.#host.send(session, { kind: 'withdraw', sequence, names, moved });
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

  settle(id: ChangeId, session: SessionId): void {
    const change = this.#queue.get(id);
    if (change?.awaited.delete(session)) this.#performIfFree(change);
  }

  #performIfFree(change: Change): void {
    if (change.state !== 'withdrawing' || change.awaited.size > 0) return;
    invariant(!this.#host.isGrace(), 'nothing changes during grace');
    change.state = 'performing';
    this.#host.emit({ kind: 'change-may-perform', change: change.id });
  }

  finish({ change: id, updates, moved }: EventOf<Inode, 'change-finished'>): void {
    const change = this.#queue.get(id);
    invariant(change !== undefined, 'a change that finishes was wanted');
    if (change.state === 'waiting') {
      const at = this.#graceful.indexOf(change);
      if (at !== -1) this.#graceful.splice(at, 1);
    } else {
      if (change.state === 'performing') this.#dropGone(change, moved);
      for (const place of moved) this.#move(place, change.by);
      this.#moving.delete(change);
      for (const { name } of change.names) this.#endUnderChange(change, name);
      // What another change goes on with is withdrawn from all, and told at its end.
      this.#tell(
        change,
        updates.filter(({ name }) => this.of(name.directory, name.name) === undefined),
      );
    }
    this.#host.emit({ kind: 'change-ended', change: id });
    for (const next of this.#queue.finish(id)) this.#begin(next);
  }

  #endUnderChange(change: Change, { directory, name }: LeasedName): void {
    const names = this.#underChange.get(directory);
    const changes = names?.get(name);
    if (names === undefined || changes === undefined) return;
    changes.delete(change);
    if (changes.size === 0) names.delete(name);
    if (names.size === 0) this.#underChange.delete(directory);
  }

  /** Whoever had leases at or below a directory that is gone has forgotten all that they covered. */
  #dropGone({ moved }: Change, places: readonly Ancestors[]): void {
    for (const [directory] of moved) {
      if (directory === undefined || places.some(([there]) => there === directory)) continue;
      for (const [session, held] of this.#book.below(directory)) this.#book.drop(session, held);
    }
  }

  #move(place: Ancestors, by: SessionId | undefined): void {
    const session = by === undefined ? undefined : this.#host.session(by);
    const directory = place[0] as InodeNumber;
    if (session !== undefined && session.holdings.subtrees > 0) session.holdings.excluded.add(directory);
    this.#book.rebase(place);
    this.#queue.rebase(place);
    this.#recent.note(place, this.#host.nowMs());
  }

  #tell(change: Change, updates: readonly NameUpdate<Inode>[]): void {
    const told = new Map<LeaseSession, NameUpdate<Inode>[]>();
    for (const update of updates) {
      const { directory, name } = update.name;
      const changed = change.names.find((one) => one.name.directory === directory && one.name.name === name);
      invariant(changed !== undefined, 'an update tells of a name of its change');
      this.#recent.note(changed.ancestors, this.#host.nowMs());
      for (const session of this.#book.holders(changed.ancestors)) {
        const known = told.get(session);
        if (known === undefined) told.set(session, [update]);
        else known.push(update);
      }
    }
    for (const [session, names] of told) {
      session.sequence += 1;
      this.#host.send(session, { kind: 'update', sequence: session.sequence, names });
    }
  }
}
