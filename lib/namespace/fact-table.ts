/**
 * Where facts lie: by directory and name, and by inode. Knows nothing of messages and answers; whoever changes it
 * (`name-cache.ts`) sees to the order between them.
 *
 * Invariant: an inode that is found by number is found under its name.
 */
import { type InodeNumber, ROOT_INODE } from '../base/brand.ts';
import type { LeaseReference, Sequence } from '../lease/lease.ts';
import { type AbsentFact, DirectoryFacts, type Fact, type KnownFact } from './directory-facts.ts';
import type { PathRule } from './immutable-paths.ts';
import type { InodeAttributes } from './namespace.ts';

/** Directories moved under each other between answers can look like a ring for a while. */
const DEPTH_MAX = 1024;

export class FactTable {
  readonly #immutable: PathRule;
  readonly #stale: PathRule;
  /** In the order in which they were made, or last given another chance. */
  readonly #directories = new Map<InodeNumber, DirectoryFacts>();
  readonly #byInode = new Map<InodeNumber, KnownFact>();
  #size = 0;

  /** @param rules `stale`: what may be used without a lease while the origin cannot be reached */
  constructor(rules: { readonly immutable: PathRule; readonly stale: PathRule }) {
    this.#immutable = rules.immutable;
    this.#stale = rules.stale;
  }

  /** Names with a fact of their own. */
  get size(): number {
    return this.#size;
  }

  get directoryCount(): number {
    return this.#directories.size;
  }

  directories(): IterableIterator<DirectoryFacts> {
    return this.#directories.values();
  }

  directory(inode: InodeNumber): DirectoryFacts | undefined {
    return this.#directories.get(inode);
  }

  /** The facts of a directory, from now on under this lease. */
  cover(inode: InodeNumber, lease: LeaseReference): DirectoryFacts {
    let facts = this.#directories.get(inode);
    if (facts === undefined) {
      facts = new DirectoryFacts(inode);
      this.#directories.set(inode, facts);
    }
    facts.lease = lease;
    facts.wasUsed = true;
    return facts;
  }

  /** The name that an inode has, if that is known. */
  inode(inode: InodeNumber): KnownFact | undefined {
    return this.#byInode.get(inode);
  }

  know(
    facts: DirectoryFacts,
    found: { readonly name: string; readonly attributes: InodeAttributes; readonly sequence: Sequence },
  ): void {
    const { name, attributes, sequence } = found;
    const isImmutable = this.#isImmutable(facts.inode, name);
    const fact: KnownFact = { state: 'known', sequence, directory: facts, name, attributes, isImmutable };
    this.#set(facts, name, fact);
    this.#byInode.set(attributes.inode, fact);
  }

  lack(facts: DirectoryFacts, name: string, sequence: Sequence): AbsentFact {
    const isImmutable = this.isImmutableBelow(facts.inode);
    const fact: AbsentFact = { state: 'absent', sequence, isImmutable };
    this.#set(facts, name, fact);
    return fact;
  }

  withdraw(
    facts: DirectoryFacts,
    name: string,
    { sequence, mayBeShown }: { readonly sequence: Sequence; readonly mayBeShown: boolean },
  ): void {
    this.#set(facts, name, { state: 'withdrawn', sequence, mayBeShown });
  }

  /** @returns whether anything was known of the directory */
  drop(inode: InodeNumber): boolean {
    const facts = this.#directories.get(inode);
    if (facts === undefined) return false;
    this.#directories.delete(inode);
    this.#size -= facts.size;
    for (const [, fact] of facts.facts()) if (fact.state === 'known') this.#forgetInode(fact);
    return facts.size > 0;
  }

  /** The oldest directory is met again after all others. */
  requeue(facts: DirectoryFacts): void {
    this.#directories.delete(facts.inode);
    this.#directories.set(facts.inode, facts);
  }

  /**
   * Everything goes but what these leases cover, less absences and listings, and what is immutable; and, while the
   * origin cannot be reached, what may be stale. Sequences begin anew.
   */
  retain(
    keep: readonly LeaseReference[],
    { withStale = false }: { readonly withStale?: boolean } = {},
  ): void {
    const survivors = [...this.#directories.values()].map((facts) => {
      const path = this.#immutable.isEmpty && this.#stale.isEmpty ? undefined : this.pathOf(facts.inode);
      const isStale = withStale && path !== undefined;
      return {
        facts,
        lease: keep.find((lease) => this.#covers(lease, facts.inode)),
        isListed:
          facts.isComplete &&
          path !== undefined &&
          (this.#immutable.hasBelow(path) || (isStale && this.#stale.hasBelow(path))),
        mayBeStale: (name: string): boolean =>
          isStale && this.#stale.has(path === '' ? name : `${path}/${name}`),
      };
    });
    this.clear();
    for (const survivor of survivors) this.#survive(survivor);
  }

  /** Nothing is known. */
  clear(): void {
    this.#directories.clear();
    this.#byInode.clear();
    this.#size = 0;
  }

  // --- Paths ---

  /** Whether all that is in a directory is immutable, so that its listing is. */
  isImmutableBelow(directory: InodeNumber): boolean {
    if (this.#immutable.isEmpty) return false;
    const path = this.pathOf(directory);
    return path !== undefined && this.#immutable.hasBelow(path);
  }

  /** The path of a directory from the export's root, if all of it is known. */
  pathOf(directory: InodeNumber): string | undefined {
    const names: string[] = [];
    for (const at of this.#above(directory)) {
      if (at === 'unknown') return undefined;
      if (at.name !== '') names.push(at.name);
    }
    return names.reverse().join('/');
  }

  /** Whether a directory is, or for all that is known may be, one of these or below one. */
  mayLieIn(directory: InodeNumber, tops: readonly InodeNumber[]): boolean {
    if (tops.includes(directory)) return true;
    for (const at of this.#above(directory)) {
      if (at === 'unknown' || tops.includes(at.directory.inode)) return true;
    }
    return false;
  }

  #covers(lease: LeaseReference, directory: InodeNumber): boolean {
    if (lease.directory === directory) return true;
    if (!lease.subtree) return false;
    for (const at of this.#above(directory)) {
      if (at !== 'unknown' && at.directory.inode === lease.directory) return true;
    }
    return false;
  }

  #isImmutable(directory: InodeNumber, name: string): boolean {
    if (this.#immutable.isEmpty) return false;
    const path = this.pathOf(directory);
    if (path === undefined) return false;
    return this.#immutable.has(path === '' ? name : `${path}/${name}`);
  }

  /** The facts by which a directory is reached, from itself up to the root; `unknown` where one is missing. */
  *#above(directory: InodeNumber): Generator<KnownFact | 'unknown'> {
    let at = directory;
    for (let depth = 0; at !== ROOT_INODE; depth++) {
      const fact = this.#byInode.get(at);
      if (fact === undefined || depth === DEPTH_MAX) {
        yield 'unknown';
        return;
      }
      yield fact;
      at = fact.directory.inode;
    }
  }

  // --- Within ---

  #set(facts: DirectoryFacts, name: string, fact: Fact): void {
    const own = facts.own(name);
    if (own?.state === 'known') this.#forgetInode(own);
    facts.set(name, fact);
    if (own === undefined) this.#size += 1;
  }

  #forgetInode(fact: KnownFact): void {
    const { inode } = fact.attributes;
    if (this.#byInode.get(inode) === fact) this.#byInode.delete(inode);
  }

  #survive(survivor: {
    readonly facts: DirectoryFacts;
    readonly lease: LeaseReference | undefined;
    readonly isListed: boolean;
    readonly mayBeStale: (name: string) => boolean;
  }): void {
    const { facts, lease, isListed, mayBeStale } = survivor;
    const kept = new DirectoryFacts(facts.inode);
    kept.lease = lease;
    for (const [name, fact] of facts.facts()) {
      if (fact.state === 'known' && (lease !== undefined || fact.isImmutable || mayBeStale(name))) {
        const known = { ...fact, sequence: 0, directory: kept };
        kept.set(name, known);
        this.#byInode.set(known.attributes.inode, known);
      } else if (fact.state === 'absent' && (fact.isImmutable || mayBeStale(name))) {
        kept.set(name, { ...fact, sequence: 0 });
      }
    }
    if (kept.size === 0 && !isListed) return;
    if (isListed) kept.extendListing({ after: '', next: undefined, sequence: 0 });
    this.#directories.set(kept.inode, kept);
    this.#size += kept.size;
  }
}
