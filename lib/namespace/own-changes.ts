/**
 * Changes that this satellite makes itself. The origin withdraws nothing from it for them, so what they concern is taken
 * out of the cache before they are asked for (`NameCache.begin`), and this says until when it must stay out:
 *
 * - While a change is under way, nothing is kept of what it concerns: neither answers nor updates, which may tell of the
 *   time before it. The last update of each name is put aside.
 * - The answer to the change says which message the origin had sent last on the session's stream when the change was
 *   done: the update of the change itself, if nothing else came after it. Earlier updates may be older than the change;
 *   that one and later ones are not, and are kept.
 * - An answer to a question is kept if it was asked after the change was answered.
 * - What is asked while directories are being moved is kept only if it is known to lie elsewhere.
 *
 * A change may concern a name (it stands for something else afterwards) or an inode, wherever that lies (it has other
 * attributes or another version). Data structure without clock or socket.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { NameUpdate, Sequence } from '../lease/lease.ts';
import type { InodeAttributes } from './namespace.ts';
import type { NamePlace } from './changes.ts';

/** Subjects of changes that are over, and of which older updates may still come; more and all facts are dropped. */
export const SUBJECTS_MAX = 100_000;

export interface OwnChange {
  readonly names: readonly NamePlace[];
  readonly inodes: readonly InodeNumber[];
  /** Directories that get another place; `unknown`: there may be one; undefined: nothing gets another place. */
  readonly moved?: readonly InodeNumber[] | 'unknown';
  /** The kernel asked for it: it holds locks of the directories meanwhile, and knows what becomes of the names. */
  readonly isKernels: boolean;
}

/** How the origin answered a change. */
export interface ChangeAnswer {
  /** Of the last message that it had sent to the session when the change was done. */
  readonly sequence: Sequence;
  /** The session (`OwnChanges.session`) in whose name the change was asked for. */
  readonly session: number;
}

/** What changes concern: a name, or an inode. */
export type Subject = string | InodeNumber;

interface Guard {
  underWay: number;
  /** Updates before this one may be older than a change that is over. */
  through: Sequence;
}

export interface PutAside {
  readonly update: NameUpdate<InodeAttributes>;
  readonly sequence: Sequence;
}

export class OwnChanges {
  /** Which session of this satellite it is: 0, 1, 2 …; its messages are numbered from 1. */
  session = 0;
  readonly #underWay = new Set<OwnChange>();
  readonly #guards = new Map<Subject, Guard>();
  /** Those of which no change is under way. */
  readonly #over = new Set<Subject>();
  /** By name. */
  readonly #aside = new Map<string, PutAside>();
  #received: Sequence = 0;

  get isFull(): boolean {
    return this.#over.size > SUBJECTS_MAX;
  }

  /** Subjects that are guarded. */
  get size(): number {
    return this.#guards.size;
  }

  begin(change: OwnChange): void {
    this.#underWay.add(change);
    for (const subject of subjectsOf(change)) {
      const guard = this.#guards.get(subject) ?? { underWay: 0, through: 0 };
      guard.underWay += 1;
      this.#guards.set(subject, guard);
      this.#over.delete(subject);
    }
  }

  /**
   * @param answer undefined: nothing has changed
   * @returns updates that were put aside and tell of a time after the change
   */
  end(change: OwnChange, answer: ChangeAnswer | undefined): readonly PutAside[] {
    if (!this.#underWay.delete(change)) return [];
    // Another session than the one that asked is told of the change like any other.
    const through = answer?.session === this.session ? answer.sequence : 0;
    for (const subject of subjectsOf(change)) {
      const guard = this.#guards.get(subject);
      if (guard === undefined) continue;
      guard.underWay -= 1;
      guard.through = Math.max(guard.through, through);
      if (guard.underWay === 0) this.#over.add(subject);
    }
    const settled = this.#settle();
    for (const subject of subjectsOf(change)) this.#release(subject);
    return settled;
  }

  /** Whether nothing may be kept of any of these now. */
  concerns(subjects: readonly (Subject | undefined)[]): boolean {
    return subjects.some(
      (subject) => subject !== undefined && (this.#guards.get(subject)?.underWay ?? 0) > 0,
    );
  }

  /** Names of a directory that nothing may be kept of now. */
  *namesIn(directory: InodeNumber): Generator<string> {
    for (const change of this.#underWay) {
      for (const place of change.names) if (place.parent === directory) yield place.name;
    }
  }

  /** Directories that are being moved, as far as is known; undefined: none is. */
  get moving(): readonly InodeNumber[] | undefined {
    let moving: InodeNumber[] | undefined;
    for (const { moved } of this.#underWay) {
      // Others may have put a directory where there was a file: whatever lies at an unknown place may be in it.
      if (moved !== undefined) moving = [...(moving ?? []), ...(moved === 'unknown' ? [] : moved)];
    }
    return moving;
  }

  /** @returns whether an update may be kept; otherwise it may be older than a change */
  admits(update: NameUpdate<InodeAttributes>, sequence: Sequence): boolean {
    const guards = this.#guardsOf(update);
    if (guards.some((guard) => guard.through > sequence)) return false;
    if (guards.every((guard) => guard.underWay === 0)) return true;
    this.#aside.set(subjectOfName(update.name.directory, update.name.name), { update, sequence });
    return false;
  }

  /** An update that was put aside says no more what the name is. */
  withdrawn(directory: InodeNumber, name: string): void {
    if (this.#aside.size > 0) this.#aside.delete(subjectOfName(directory, name));
  }

  /** All messages up to this one have come. */
  received(sequence: Sequence): void {
    this.#received = sequence;
    for (const subject of this.#over) this.#release(subject);
  }

  /** The session is lost: no message of it will come. Changes under way go on. */
  sessionLost(): void {
    this.session += 1;
    this.#received = 0;
    this.forget();
    for (const guard of this.#guards.values()) guard.through = 0;
  }

  /** Nothing is known of names any more: updates, which only replace what is known, can do no harm. */
  forget(): void {
    this.#aside.clear();
    for (const subject of this.#over) this.#guards.delete(subject);
    this.#over.clear();
  }

  /** Before any guard is given up, by which an update may turn out to be old. */
  #settle(): PutAside[] {
    const settled: PutAside[] = [];
    for (const [name, aside] of this.#aside) {
      const guards = this.#guardsOf(aside.update);
      const isOld = guards.some((guard) => guard.through > aside.sequence);
      if (!isOld && guards.some((guard) => guard.underWay > 0)) continue;
      this.#aside.delete(name);
      if (!isOld) settled.push(aside);
    }
    return settled;
  }

  #release(subject: Subject): void {
    const guard = this.#guards.get(subject);
    if (guard === undefined || guard.underWay > 0 || guard.through > this.#received) return;
    this.#guards.delete(subject);
    this.#over.delete(subject);
  }

  #guardsOf({ name, inode }: NameUpdate<InodeAttributes>): Guard[] {
    const subjects = [subjectOfName(name.directory, name.name), inode?.inode];
    const guards = subjects.map((subject) => (subject === undefined ? undefined : this.#guards.get(subject)));
    return guards.filter((guard) => guard !== undefined);
  }
}

export function subjectOfName(directory: InodeNumber, name: string): Subject & string {
  return `${directory}/${name}`;
}

export function subjectsOf({ names, inodes }: OwnChange): Set<Subject> {
  return new Set<Subject>([...names.map(({ parent, name }) => subjectOfName(parent, name)), ...inodes]);
}
