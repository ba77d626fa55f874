/**
 * Questions to the origin that are under way, so that an answer is kept only if nothing has made it old on its way:
 * rule 1 of "Order between answers and the stream" in lib/lease/README.md. Every message that concerns a question marks
 * it with the message's sequence; what ends the lease itself marks it for good. A change of this satellite that ends
 * meanwhile is noted with it: nothing is kept of what that concerns.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { Sequence } from '../lease/lease.ts';
import type { OwnChange } from './own-changes.ts';

/**
 * - `name`: one name of a directory
 * - `listing`: any names of a directory
 * - `inode`: attributes of an inode; where it lies is learnt from the answer
 */
export type Subject =
  | { readonly kind: 'name'; readonly directory: InodeNumber; readonly name: string }
  | { readonly kind: 'listing'; readonly directory: InodeNumber }
  | { readonly kind: 'inode'; readonly inode: InodeNumber };

export interface Question {
  readonly subject: Subject;
  /** The highest sequence of a message that concerned it since it was asked. */
  readonly markedAt: Sequence;
  /** Changes of this satellite that ended since it was asked. */
  readonly overtakenBy: OwnChange[];
}

interface Marked extends Question {
  markedAt: Sequence;
}

export class Questions {
  readonly #ofDirectory = new Map<InodeNumber, Set<Marked>>();
  readonly #ofInodes = new Set<Marked>();

  get size(): number {
    let size = this.#ofInodes.size;
    for (const questions of this.#ofDirectory.values()) size += questions.size;
    return size;
  }

  ask(subject: Subject): Question {
    const question: Marked = { subject, markedAt: 0, overtakenBy: [] };
    if (subject.kind === 'inode') {
      this.#ofInodes.add(question);
      return question;
    }
    const others = this.#ofDirectory.get(subject.directory);
    if (others === undefined) this.#ofDirectory.set(subject.directory, new Set([question]));
    else others.add(question);
    return question;
  }

  /** Answered, or given up. */
  end(question: Question): void {
    const { subject } = question;
    if (subject.kind === 'inode') {
      this.#ofInodes.delete(question);
      return;
    }
    const others = this.#ofDirectory.get(subject.directory);
    others?.delete(question);
    if (others?.size === 0) this.#ofDirectory.delete(subject.directory);
  }

  concerns(directory: InodeNumber): boolean {
    return this.#ofDirectory.has(directory);
  }

  /** A change of this satellite has ended. */
  overtake(change: OwnChange): void {
    for (const questions of this.#ofDirectory.values())
      for (const question of questions) question.overtakenBy.push(change);
    for (const question of this.#ofInodes) question.overtakenBy.push(change);
  }

  markName(directory: InodeNumber, name: string, sequence: Sequence): void {
    for (const question of this.#ofDirectory.get(directory) ?? []) {
      if (question.subject.kind === 'listing' || (question.subject as { name?: string }).name === name)
        mark(question, sequence);
    }
    for (const question of this.#ofInodes) mark(question, sequence);
  }

  markDirectory(directory: InodeNumber, sequence: Sequence): void {
    for (const question of this.#ofDirectory.get(directory) ?? []) mark(question, sequence);
    for (const question of this.#ofInodes) mark(question, sequence);
  }

  markAll(sequence: Sequence): void {
    for (const questions of this.#ofDirectory.values())
      for (const question of questions) mark(question, sequence);
    for (const question of this.#ofInodes) mark(question, sequence);
  }
}

function mark(question: Marked, sequence: Sequence): void {
  question.markedAt = Math.max(question.markedAt, sequence);
}
