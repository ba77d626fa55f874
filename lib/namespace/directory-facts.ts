/**
 * What is known of the names of one directory.
 *
 * A name has a fact of its own, or lies in the span that was listed (from the first name on, without a gap) and then is
 * known to be absent, or is unknown. Each fact carries the sequence that the session's stream had reached when it was
 * learnt; the span carries the lowest and the highest of its pages.
 *
 * Invariant: whatever the kernel may have been shown has a fact of its own, so that a withdraw finds it.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { LeaseReference, Sequence } from '../lease/lease.ts';
import { compareNames, indexAbove } from './name-order.ts';
import type { DirectoryEntry, InodeAttributes, ListPage } from './namespace.ts';

/**
 * - `known`: the name stands for this inode
 * - `absent`: there is no such name
 * - `withdrawn`: it is being changed, or was and nobody told how it ended: ask
 */
export type Fact = KnownFact | AbsentFact | WithdrawnFact;

export interface KnownFact {
  readonly state: 'known';
  readonly sequence: Sequence;
  readonly directory: DirectoryFacts;
  readonly name: string;
  readonly attributes: InodeAttributes;
  readonly isImmutable: boolean;
}

export interface AbsentFact {
  readonly state: 'absent';
  readonly sequence: Sequence;
  readonly isImmutable: boolean;
}

export interface WithdrawnFact {
  readonly state: 'withdrawn';
  readonly sequence: Sequence;
  /** The kernel may still show it: this satellite itself changes it, or tried to, and the kernel was not told. */
  readonly mayBeShown: boolean;
}

interface ListedSpan {
  /** Up to this name; undefined: all names. */
  through: string | undefined;
  lowestSequence: Sequence;
  highestSequence: Sequence;
}

export class DirectoryFacts {
  readonly inode: InodeNumber;
  /** What covers these facts; undefined: nothing, they are immutable. */
  lease: LeaseReference | undefined;
  /** Since the last look at what may be dropped. */
  wasUsed = true;
  /** Names that the origin was asked for one by one. */
  asked = 0;
  readonly #facts = new Map<string, Fact>();
  #listed: ListedSpan | undefined;
  /** Names that have, or had, a fact, in order; made at the first listing. */
  #order: string[] | undefined;

  constructor(inode: InodeNumber) {
    this.inode = inode;
  }

  /** Facts of single names. */
  get size(): number {
    return this.#facts.size;
  }

  /** Whether every name is known, absent ones included. */
  get isComplete(): boolean {
    return this.#listed !== undefined && this.#listed.through === undefined;
  }

  facts(): Iterable<[string, Fact]> {
    return this.#facts;
  }

  own(name: string): Fact | undefined {
    return this.#facts.get(name);
  }

  /** The sequence of the pages where `name` was found to be absent; undefined: it lies in no page. */
  absence(name: string): { readonly lowest: Sequence; readonly highest: Sequence } | undefined {
    const listed = this.#listed;
    if (listed === undefined || name === '') return undefined;
    if (listed.through !== undefined && compareNames(name, listed.through) > 0) return undefined;
    return { lowest: listed.lowestSequence, highest: listed.highestSequence };
  }

  set(name: string, fact: Fact): void {
    const isNew = !this.#facts.has(name);
    this.#facts.set(name, fact);
    if (!isNew || this.#order === undefined || name === '') return;
    const above = indexAbove(this.#order, name);
    if (this.#order[above - 1] !== name) this.#order.splice(above, 0, name);
  }

  /** The span now reaches to the end of a page, if the page begins where the span ends, or before. */
  extendListing(page: {
    readonly after: string;
    readonly next: string | undefined;
    readonly sequence: Sequence;
  }): void {
    const { after, next, sequence } = page;
    const listed = this.#listed;
    if (listed === undefined) {
      if (after !== '') return;
      this.#listed = { through: next, lowestSequence: sequence, highestSequence: sequence };
      return;
    }
    const { through } = listed;
    if (through !== undefined && compareNames(after, through) > 0) return;
    if (through !== undefined && (next === undefined || compareNames(next, through) > 0))
      listed.through = next;
    listed.lowestSequence = Math.min(listed.lowestSequence, sequence);
    listed.highestSequence = Math.max(listed.highestSequence, sequence);
  }

  /** Undefined: not all of the page is known. */
  page(after: string, entriesMax: number): ListPage | undefined {
    const listed = this.#listed;
    if (listed === undefined) return undefined;
    const { through } = listed;
    if (through !== undefined && compareNames(after, through) >= 0) return undefined;
    this.#order ??= [...this.#facts.keys()].filter((name) => name !== '').sort(compareNames);
    const order = this.#order;
    const entries: DirectoryEntry[] = [];
    for (let at = indexAbove(order, after); at < order.length; at++) {
      const name = order[at] as string;
      if (through !== undefined && compareNames(name, through) > 0) break;
      const fact = this.#facts.get(name);
      if (fact?.state === 'withdrawn') return undefined;
      if (fact?.state !== 'known') continue;
      if (entries.length === entriesMax) return { entries, next: entries.at(-1)?.name, isHeld: true };
      entries.push(fact);
    }
    return { entries, next: through, isHeld: true };
  }
}
