/**
 * The facts that this satellite holds under leases: names with their attributes, absent names, whole listings. A
 * synchronous data structure without clock, timer or socket: whoever asks it knows whether the leases still hold.
 *
 * Order between answers and the stream (lib/lease/README.md): a question is opened before the origin is asked, messages
 * mark the questions that they concern, and an answer is kept only if it is not older than any mark or fact. A directory
 * that is given up stays leased until the origin has recalled it, which drops what was learnt of it meanwhile.
 *
 * Bounded by names: beyond `namesMax` the directories that were not used lately go whole.
 *
 * Invariants: an inode that is found by number is found under its name; facts of one directory are covered by one lease,
 * or immutable; whatever leaves here while the kernel may hold it is reported in a `Dropped`.
 */
import { type InodeNumber, ROOT_INODE } from '../base/brand.ts';
import type { Grant, LeasedName, LeaseReference, NameUpdate, Sequence } from '../lease/lease.ts';
import { type AbsentFact, DirectoryFacts, type Fact, type KnownFact } from './directory-facts.ts';
import { ImmutablePaths } from './immutable-paths.ts';
import type { DirectoryEntry, DroppedName, InodeAttributes, ListPage } from './namespace.ts';
import { type Question, Questions, type Subject } from './questions.ts';

/** Names of facts. One with its version and key takes about 700 bytes, so that these are near 1.4 GB. */
export const NAMES_MAX_DEFAULT = 2_000_000;
/** How full the cache is after directories were given up, so that this is not done for every name. */
const KEPT_FRACTION = 0.9;
/** Directories moved under each other between answers can look like a ring for a while. */
const DEPTH_MAX = 1024;

export interface NameCacheOptions {
  readonly namesMax?: number;
  readonly immutable?: ImmutablePaths;
}

/** What the kernel must not serve any more. */
export interface Dropped {
  readonly names: readonly DroppedName[];
  /** More than can be named. */
  readonly everything: boolean;
}

export interface Withdrawn extends Dropped {
  /** Directories of the message about which nothing is known here: they need not be told of again. */
  readonly released: readonly InodeNumber[];
}

export interface NameCacheStat {
  readonly names: number;
  readonly directories: number;
  /** Directories whose listing is known. */
  readonly directoriesComplete: number;
}

export class NameCache {
  readonly questions = new Questions();
  readonly #namesMax: number;
  readonly #immutable: ImmutablePaths;
  /** In the order in which they were made, or last given another chance. */
  readonly #directories = new Map<InodeNumber, DirectoryFacts>();
  readonly #byInode = new Map<InodeNumber, KnownFact>();
  #names = 0;

  constructor(options: NameCacheOptions = {}) {
    this.#namesMax = options.namesMax ?? NAMES_MAX_DEFAULT;
    this.#immutable = options.immutable ?? new ImmutablePaths([]);
  }

  /** Names known, absent ones included. */
  get size(): number {
    return this.#names;
  }

  stat(): NameCacheStat {
    let directoriesComplete = 0;
    for (const directory of this.#directories.values()) if (directory.isComplete) directoriesComplete += 1;
    return { names: this.#names, directories: this.#directories.size, directoriesComplete };
  }

  /** The leases that the facts are kept under. */
  leases(): LeaseReference[] {
    const distinct = new Map<string, LeaseReference>();
    for (const { lease } of this.#directories.values()) {
      if (lease !== undefined) distinct.set(`${lease.directory} ${lease.subtree}`, lease);
    }
    return [...distinct.values()];
  }

  leaseOf(directory: InodeNumber): LeaseReference | undefined {
    return this.#directories.get(directory)?.lease;
  }

  // --- Facts ---

  /** What a name is; undefined if that is not known, or under change. */
  name(directory: InodeNumber, name: string): KnownFact | AbsentFact | undefined {
    const facts = this.#directories.get(directory);
    if (facts === undefined) return undefined;
    facts.wasUsed = true;
    const own = facts.own(name);
    if (own !== undefined) return own.state === 'withdrawn' ? undefined : own;
    const absence = facts.absence(name);
    if (absence === undefined) return undefined;
    // Whoever asks may show it to the kernel: from now on a withdraw must find it.
    return this.#lack(facts, name, absence.lowest);
  }

  /** An inode under whatever name it has. */
  inode(inode: InodeNumber): KnownFact | undefined {
    const fact = this.#byInode.get(inode);
    if (fact !== undefined) fact.directory.wasUsed = true;
    return fact;
  }

  /** Undefined: the page is not known whole. */
  page(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
  ): ListPage | undefined {
    const facts = this.#directories.get(directory);
    if (facts === undefined) return undefined;
    facts.wasUsed = true;
    return facts.page(page.after ?? '', page.entriesMax);
  }

  /** Whether every name of a directory is known. */
  isComplete(directory: InodeNumber): boolean {
    return this.#directories.get(directory)?.isComplete === true;
  }

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

  /** Counts a name that was asked for by itself; 0 if the listing is known, or nothing is. */
  countAsked(directory: InodeNumber): number {
    const facts = this.#directories.get(directory);
    if (facts === undefined || facts.isComplete) return 0;
    facts.asked += 1;
    return facts.asked;
  }

  // --- Questions and answers ---

  ask(subject: Subject): Question {
    return this.questions.ask(subject);
  }

  /** Each of these ends the question. @returns whether the answer was kept; otherwise it is to be used once. */
  keepName(
    question: Question,
    answer: { readonly attributes: InodeAttributes | undefined; readonly grant: Grant | undefined },
  ): boolean {
    this.questions.end(question);
    const { subject } = question;
    if (subject.kind !== 'name') return false;
    return this.#keep(question, { ...answer, directory: subject.directory, name: subject.name });
  }

  keepAttributes(
    question: Question,
    answer: {
      readonly attributes: InodeAttributes;
      readonly grant: Grant | undefined;
      readonly parent: InodeNumber;
      readonly name: string;
    },
  ): boolean {
    this.questions.end(question);
    return this.#keep(question, { ...answer, directory: answer.parent });
  }

  keepPage(
    question: Question,
    answer: {
      readonly after: string;
      readonly entries: readonly DirectoryEntry[];
      readonly next: string | undefined;
      readonly withdrawn: readonly string[];
      readonly grant: Grant | undefined;
    },
  ): boolean {
    this.questions.end(question);
    const { subject } = question;
    const { grant } = answer;
    if (subject.kind !== 'listing' || grant === undefined || question.markedAt > grant.sequence) return false;
    const { sequence } = grant;
    const facts = this.#directory(subject.directory, grant.lease);
    const withdrawn = new Set(answer.withdrawn);
    for (const { name, attributes } of answer.entries) {
      // Present or not: the page shows what it was before.
      if (withdrawn.has(name)) continue;
      const own = facts.own(name);
      if (own === undefined || own.sequence <= sequence) this.#know(facts, { name, attributes, sequence });
    }
    for (const name of withdrawn) {
      // A fact of its own stays until the withdraw itself comes, which must still find it.
      if (facts.own(name) === undefined) this.#set(facts, name, { state: 'withdrawn', sequence });
    }
    facts.extendListing({ after: answer.after, next: answer.next, sequence });
    return true;
  }

  // --- Messages ---

  /** Names that are being changed, and directories that get another place. */
  withdraw(message: {
    readonly names: readonly LeasedName[];
    readonly moved: readonly InodeNumber[];
    readonly sequence: Sequence;
  }): Withdrawn {
    const { sequence } = message;
    const everything = message.moved.length > 0 && this.#dropBelow(message.moved, sequence);
    const names: DroppedName[] = [];
    const released = new Set<InodeNumber>();
    for (const of of message.names) {
      const { directory, name } = of;
      this.questions.markName(directory, name, sequence);
      const facts = this.#directories.get(directory);
      if (facts === undefined) {
        if (!this.questions.concerns(directory)) released.add(directory);
        continue;
      }
      const own = facts.own(name);
      const known = own?.sequence ?? facts.absence(name)?.lowest;
      if (known === undefined || sequence <= known) continue;
      this.#set(facts, name, { state: 'withdrawn', sequence });
      if (own?.state !== 'withdrawn') names.push(droppedName(of, own));
    }
    return { names, everything, released: [...released] };
  }

  /** What names are now. Kept where something was known, if only that they were withdrawn. */
  update(message: {
    readonly names: readonly NameUpdate<InodeAttributes>[];
    readonly sequence: Sequence;
  }): Dropped {
    const { sequence } = message;
    const dropped: DroppedName[] = [];
    for (const { name: of, inode } of message.names) {
      const { directory, name } = of;
      const facts = this.#directories.get(directory);
      const own = facts?.own(name);
      const known = own?.sequence ?? facts?.absence(name)?.highest;
      if (facts === undefined || known === undefined || sequence <= known) continue;
      if (inode === undefined) this.#lack(facts, name, sequence);
      else this.#know(facts, { name, attributes: inode, sequence });
      // A change of this satellite's own is not withdrawn before.
      if (own?.state !== 'withdrawn') dropped.push(droppedName(of, own));
    }
    return { names: dropped, everything: false };
  }

  /** Directories that are taken back, with all below them for a subtree; none named: all. */
  recall(leases: readonly LeaseReference[], sequence: Sequence): Dropped {
    if (leases.length === 0) return this.dropAll([]);
    this.questions.markAll(sequence);
    let everything = false;
    for (const { directory, subtree } of leases) {
      const some = subtree ? this.#dropBelow([directory], sequence) : this.#drop(directory);
      everything ||= some;
    }
    return { names: [], everything };
  }

  /**
   * The session is lost, and no answer to an earlier question holds. What these leases cover stays (a restarted origin
   * has granted them anew), less absences and listings, which only its last life knew; and so does what is immutable.
   */
  dropAll(keep: readonly LeaseReference[]): Dropped {
    this.questions.markAll(Infinity);
    const everything = this.#names > 0;
    const survivors = [...this.#directories.values()].map((facts) => ({
      facts,
      lease: keep.find((lease) => this.#covers(lease, facts.inode)),
      isListed: facts.isComplete && this.isImmutableBelow(facts.inode),
    }));
    this.#directories.clear();
    this.#byInode.clear();
    this.#names = 0;
    for (const survivor of survivors) this.#survive(survivor);
    return { names: [], everything };
  }

  // --- The bound ---

  /** Gives up what was not used lately, if there is too much. The kernel and then the origin must be told. */
  shrink(): readonly InodeNumber[] {
    if (this.#names <= this.#namesMax) return [];
    const given: InodeNumber[] = [];
    // Each directory is met at most twice: once to take its mark away.
    for (let turns = 2 * this.#directories.size; turns > 0; turns--) {
      if (this.#names <= this.#namesMax * KEPT_FRACTION) break;
      const [oldest] = this.#directories.values();
      if (oldest === undefined) break;
      if (oldest.wasUsed) {
        oldest.wasUsed = false;
        this.#directories.delete(oldest.inode);
        this.#directories.set(oldest.inode, oldest);
        continue;
      }
      this.#drop(oldest.inode);
      if (oldest.lease !== undefined) given.push(oldest.inode);
    }
    return given;
  }

  // --- Within ---

  #keep(
    question: Question,
    answer: {
      readonly directory: InodeNumber;
      readonly name: string;
      readonly attributes: InodeAttributes | undefined;
      readonly grant: Grant | undefined;
    },
  ): boolean {
    const { directory, name, attributes, grant } = answer;
    if (grant === undefined || question.markedAt > grant.sequence) return false;
    const { sequence } = grant;
    const own = this.#directories.get(directory)?.own(name);
    if (own !== undefined && own.sequence > sequence) return false;
    const facts = this.#directory(directory, grant.lease);
    if (attributes === undefined) this.#lack(facts, name, sequence);
    else this.#know(facts, { name, attributes, sequence });
    return true;
  }

  #directory(inode: InodeNumber, lease: LeaseReference): DirectoryFacts {
    let facts = this.#directories.get(inode);
    if (facts === undefined) {
      facts = new DirectoryFacts(inode);
      this.#directories.set(inode, facts);
    }
    facts.lease = lease;
    facts.wasUsed = true;
    return facts;
  }

  #know(
    facts: DirectoryFacts,
    found: { readonly name: string; readonly attributes: InodeAttributes; readonly sequence: Sequence },
  ): void {
    const { name, attributes, sequence } = found;
    const isImmutable = this.#isImmutable(facts.inode, name);
    const fact: KnownFact = { state: 'known', sequence, directory: facts, name, attributes, isImmutable };
    this.#set(facts, name, fact);
    this.#byInode.set(attributes.inode, fact);
  }

  #lack(facts: DirectoryFacts, name: string, sequence: Sequence): AbsentFact {
    const isImmutable = this.isImmutableBelow(facts.inode);
    const fact: AbsentFact = { state: 'absent', sequence, isImmutable };
    this.#set(facts, name, fact);
    return fact;
  }

  #set(facts: DirectoryFacts, name: string, fact: Fact): void {
    const own = facts.own(name);
    if (own?.state === 'known') this.#forgetInode(own);
    facts.set(name, fact);
    if (own === undefined) this.#names += 1;
  }

  #forgetInode(fact: KnownFact): void {
    const { inode } = fact.attributes;
    if (this.#byInode.get(inode) === fact) this.#byInode.delete(inode);
  }

  /** @returns whether anything was known of it */
  #drop(inode: InodeNumber): boolean {
    const facts = this.#directories.get(inode);
    if (facts === undefined) return false;
    this.#directories.delete(inode);
    this.#names -= facts.size;
    for (const [, fact] of facts.facts()) if (fact.state === 'known') this.#forgetInode(fact);
    return facts.size > 0;
  }

  /** Whatever is, or may be, at or below these directories. */
  #dropBelow(tops: readonly InodeNumber[], sequence: Sequence): boolean {
    this.questions.markAll(sequence);
    const below = [...this.#directories.keys()].filter((directory) => {
      if (tops.includes(directory)) return true;
      for (const at of this.#above(directory)) {
        if (at === 'unknown' || tops.includes(at.directory.inode)) return true;
      }
      return false;
    });
    let some = false;
    for (const directory of below) some = this.#drop(directory) || some;
    return some;
  }

  /** Sequences of the next session begin anew. */
  #survive(survivor: {
    readonly facts: DirectoryFacts;
    readonly lease: LeaseReference | undefined;
    readonly isListed: boolean;
  }): void {
    const { facts, lease, isListed } = survivor;
    const kept = new DirectoryFacts(facts.inode);
    kept.lease = lease;
    for (const [name, fact] of facts.facts()) {
      if (fact.state === 'known' && (lease !== undefined || fact.isImmutable)) {
        const known = { ...fact, sequence: 0, directory: kept };
        kept.set(name, known);
        this.#byInode.set(known.attributes.inode, known);
      } else if (fact.state === 'absent' && fact.isImmutable) {
        kept.set(name, { ...fact, sequence: 0 });
      }
    }
    if (kept.size === 0 && !isListed) return;
    if (isListed) kept.extendListing({ after: '', next: undefined, sequence: 0 });
    this.#directories.set(kept.inode, kept);
    this.#names += kept.size;
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
}

/** @param was undefined: it lay in a listing, which showed that it is absent */
function droppedName(name: LeasedName, was: KnownFact | AbsentFact | undefined): DroppedName {
  const inode = was?.state === 'known' ? was.attributes.inode : undefined;
  return { ...name, inode, wasAsked: was !== undefined };
}
