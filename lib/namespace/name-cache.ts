/**
 * The facts that this satellite holds under leases: names with their attributes, absent names, whole listings. A
 * synchronous data structure without clock, timer or socket: whoever asks it knows whether the leases still hold.
 *
 * Order between answers and the stream (lib/lease/README.md): a question is opened before the origin is asked, messages
 * mark the questions that they concern, and an answer is kept only if it is not older than any mark or fact. A directory
 * that is given up stays leased until the origin has recalled it, which drops what was learnt of it meanwhile. What this
 * satellite itself changes is withdrawn by `begin` and learnt again after `end` (`own-changes.ts`).
 *
 * Bounded by names: beyond `namesMax` the directories that were not used lately go whole.
 *
 * Invariants: facts of one directory are covered by one lease, or immutable; whatever leaves here while the kernel may
 * hold it is reported in a `Dropped`, if the kernel does not know of it by itself.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { Grant, LeasedName, LeaseReference, NameUpdate, Sequence } from '../lease/lease.ts';
import type { AbsentFact, DirectoryFacts, Fact, KnownFact } from './directory-facts.ts';
import { FactTable } from './fact-table.ts';
import { ImmutablePaths, type PathRule } from './immutable-paths.ts';
import type { DirectoryEntry, DroppedName, InodeAttributes, ListPage } from './namespace.ts';
import {
  type ChangeAnswer,
  type OwnChange,
  OwnChanges,
  type Subject,
  subjectOfName,
  subjectsOf,
} from './own-changes.ts';
import { type Question, Questions, type Subject as QuestionSubject } from './questions.ts';

/** Names of facts. One with its version and key takes about 700 bytes, so that these are near 1.4 GB. */
export const NAMES_MAX_DEFAULT = 2_000_000;
/** How full the cache is after directories were given up, so that this is not done for every name. */
const KEPT_FRACTION = 0.9;

export interface NameCacheOptions {
  readonly namesMax?: number;
  readonly immutable?: PathRule;
  /** What may be used while the origin cannot be reached, although its lease has ended. */
  readonly stale?: PathRule;
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
  readonly own = new OwnChanges();
  readonly #namesMax: number;
  #isStale = false;
  readonly #table: FactTable;

  constructor(options: NameCacheOptions = {}) {
    this.#namesMax = options.namesMax ?? NAMES_MAX_DEFAULT;
    const none = new ImmutablePaths([]);
    this.#table = new FactTable({ immutable: options.immutable ?? none, stale: options.stale ?? none });
  }

  /** Names known, absent ones included. */
  get size(): number {
    return this.#table.size;
  }

  stat(): NameCacheStat {
    let directoriesComplete = 0;
    for (const directory of this.#table.directories()) if (directory.isComplete) directoriesComplete += 1;
    return { names: this.size, directories: this.#table.directoryCount, directoriesComplete };
  }

  /** The leases that the facts are kept under. */
  leases(): LeaseReference[] {
    const distinct = new Map<string, LeaseReference>();
    for (const { lease } of this.#table.directories()) {
      if (lease !== undefined) distinct.set(`${lease.directory} ${lease.subtree}`, lease);
    }
    return [...distinct.values()];
  }

  leaseOf(directory: InodeNumber): LeaseReference | undefined {
    return this.#table.directory(directory)?.lease;
  }

  // --- Facts ---

  /** What a name is; undefined if that is not known, or under change. */
  name(directory: InodeNumber, name: string): KnownFact | AbsentFact | undefined {
    const facts = this.#table.directory(directory);
    if (facts === undefined) return undefined;
    facts.wasUsed = true;
    const own = facts.own(name);
    if (own !== undefined) return own.state === 'withdrawn' ? undefined : own;
    const absence = facts.absence(name);
    if (absence === undefined) return undefined;
    // Whoever asks may show it to the kernel: from now on a withdraw must find it.
    return this.#table.lack(facts, name, absence.lowest);
  }

  /** An inode under whatever name it has. */
  inode(inode: InodeNumber): KnownFact | undefined {
    const fact = this.#table.inode(inode);
    if (fact !== undefined) fact.directory.wasUsed = true;
    return fact;
  }

  /** Undefined: the page is not known whole. */
  page(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
  ): ListPage | undefined {
    const facts = this.#table.directory(directory);
    if (facts === undefined) return undefined;
    facts.wasUsed = true;
    return facts.page(page.after ?? '', page.entriesMax);
  }

  /** Whether every name of a directory is known. */
  isComplete(directory: InodeNumber): boolean {
    return this.#table.directory(directory)?.isComplete === true;
  }

  /** Whether all that is in a directory is immutable, so that its listing is. */
  isImmutableBelow(directory: InodeNumber): boolean {
    return this.#table.isImmutableBelow(directory);
  }

  /** The path of a directory from the export's root, if all of it is known. */
  pathOf(directory: InodeNumber): string | undefined {
    return this.#table.pathOf(directory);
  }

  /** Counts a name that was asked for by itself; 0 if the listing is known, or nothing is. */
  countAsked(directory: InodeNumber): number {
    const facts = this.#table.directory(directory);
    if (facts === undefined || facts.isComplete) return 0;
    facts.asked += 1;
    return facts.asked;
  }

  // --- Questions and answers ---

  ask(subject: QuestionSubject): Question {
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
    if (this.#mayBeMoving(subject.directory)) return false;
    const { sequence } = grant;
    const facts = this.#table.cover(subject.directory, grant.lease);
    // Present or not: the page shows what these were before.
    const withdrawn = new Set(answer.withdrawn);
    const own = new Set(this.own.namesIn(facts.inode));
    const overtaken = new Set<Subject>();
    for (const change of question.overtakenBy) {
      for (const subject of subjectsOf(change)) overtaken.add(subject);
      for (const { parent, name } of change.names) if (parent === facts.inode) own.add(name);
    }
    for (const { name, attributes } of answer.entries) {
      const { inode } = attributes;
      if (overtaken.has(inode) || this.own.concerns([inode])) own.add(name);
      if (withdrawn.has(name) || own.has(name)) continue;
      const fact = facts.own(name);
      if (fact === undefined || fact.sequence <= sequence)
        this.#table.know(facts, { name, attributes, sequence });
    }
    // A fact of its own stays until the withdraw itself comes, which must still find it.
    for (const name of new Set([...withdrawn, ...own])) {
      const mayBeShown = own.has(name);
      if (facts.own(name) === undefined) this.#table.withdraw(facts, name, { sequence, mayBeShown });
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
      this.own.withdrawn(directory, name);
      const facts = this.#table.directory(directory);
      if (facts === undefined) {
        if (!this.questions.concerns(directory)) released.add(directory);
        continue;
      }
      const known = facts.own(name)?.sequence ?? facts.absence(name)?.lowest;
      if (known !== undefined && sequence > known) this.#withdraw(facts, of, { sequence, names });
    }
    this.own.received(sequence);
    return { names, everything, released: [...released] };
  }

  /** What names are now. Kept where something was known, if only that they were withdrawn. */
  update(message: {
    readonly names: readonly NameUpdate<InodeAttributes>[];
    readonly sequence: Sequence;
  }): Dropped {
    const { sequence } = message;
    const names: DroppedName[] = [];
    for (const update of message.names) this.#update(update, { sequence, names });
    this.own.received(sequence);
    return { names, everything: false };
  }

  /** Directories that are taken back, with all below them for a subtree; none named: all. */
  recall(leases: readonly LeaseReference[], sequence: Sequence): Dropped {
    this.own.received(sequence);
    if (leases.length === 0) return this.#retain([]);
    this.questions.markAll(sequence);
    let everything = false;
    for (const { directory, subtree } of leases) {
      const some = subtree ? this.#dropBelow([directory], sequence) : this.#table.drop(directory);
      everything ||= some;
    }
    return { names: [], everything };
  }

  /**
   * The session is lost, and no answer to an earlier question holds. What these leases cover stays (a restarted origin
   * has granted them anew), less absences and listings, which only its last life knew; and so does what is immutable.
   */
  dropAll(
    keep: readonly LeaseReference[],
    { withStale = false }: { readonly withStale?: boolean } = {},
  ): Dropped {
    this.own.sessionLost();
    const dropped = this.#retain(keep, { withStale });
    this.#isStale = withStale;
    return dropped;
  }

  /** Whether what is known may be of before the end of its lease. */
  get isStale(): boolean {
    return this.#isStale;
  }

  /** The origin can be reached. The kernel was given nothing of what was stale to keep. */
  forgetStale(): void {
    if (this.#isStale) this.#retain([]);
  }

  /** What is immutable, or may be stale, is said anew, and none of the facts was judged by that. */
  forgetAll(): Dropped {
    const dropped = this.#retain([]);
    this.#table.clear();
    return dropped;
  }

  // --- Changes of this satellite ---

  /** From now on nothing is known of what the change concerns. To be called before the origin is asked for it. */
  begin(change: OwnChange): Dropped {
    const { moved } = change;
    const mayMove = moved === 'unknown' || (moved !== undefined && moved.length > 0);
    const everything = mayMove && this.#dropBelow(moved === 'unknown' ? [] : moved, Infinity);
    this.own.begin(change);
    const names: DroppedName[] = [];
    for (const { parent, name } of change.names) {
      const facts = this.#table.directory(parent);
      if (facts === undefined) continue;
      // What the kernel changes it goes on showing, and then shows what the name has become.
      const of = { directory: parent, name, attributesOnly: change.isKernels };
      this.#withdraw(facts, of, { sequence: sequenceOf(facts, name) ?? 0, names });
      if (change.isKernels) this.#mayBeShown(facts, name);
    }
    for (const inode of change.inodes) {
      const fact = this.#table.inode(inode);
      if (fact === undefined) continue;
      const { directory: facts, name, sequence } = fact;
      this.#withdraw(facts, { directory: facts.inode, name, attributesOnly: true }, { sequence, names });
    }
    return { names, everything };
  }

  /** @param answer undefined: nothing has changed */
  end(change: OwnChange, answer: ChangeAnswer | undefined): Dropped {
    this.questions.overtake(change);
    if (change.moved !== undefined) this.questions.markAll(Infinity);
    const names: DroppedName[] = [];
    for (const { update, sequence } of this.own.end(change, answer))
      this.#update(update, { sequence, names });
    if (this.own.isFull) {
      this.own.forget();
      return this.#retain([]);
    }
    return { names, everything: !this.#followKernel(change) };
  }

  /** The kernel is not told how a change ended that it asked for, or was told wrongly. */
  doubt(change: OwnChange): Dropped {
    const names: DroppedName[] = [];
    for (const { parent, name } of change.names) {
      const facts = this.#table.directory(parent);
      const sequence = facts && sequenceOf(facts, name);
      if (facts === undefined || sequence === undefined) continue;
      this.#withdraw(facts, { directory: parent, name, attributesOnly: false }, { sequence, names });
    }
    return { names, everything: false };
  }

  /** The kernel moves an entry with the time for which it was valid. @returns whether a withdraw will find it */
  #followKernel({ names, moved, isKernels }: OwnChange): boolean {
    if (moved === undefined || !isKernels) return true;
    for (const { parent, name } of names) {
      const facts = this.#table.directory(parent);
      if (facts === undefined) return false;
      if (facts.own(name)?.state === 'withdrawn' || facts.own(name) === undefined)
        this.#mayBeShown(facts, name);
    }
    return true;
  }

  #mayBeShown(facts: DirectoryFacts, name: string): void {
    const sequence = sequenceOf(facts, name) ?? 0;
    this.#table.withdraw(facts, name, { sequence, mayBeShown: true });
  }

  // --- The bound ---

  /** Gives up what was not used lately, if there is too much. The kernel and then the origin must be told. */
  shrink(): readonly InodeNumber[] {
    if (this.size <= this.#namesMax) return [];
    const given: InodeNumber[] = [];
    // Each directory is met at most twice: once to take its mark away.
    for (let turns = 2 * this.#table.directoryCount; turns > 0; turns--) {
      if (this.size <= this.#namesMax * KEPT_FRACTION) break;
      const [oldest] = this.#table.directories();
      if (oldest === undefined) break;
      if (oldest.wasUsed) {
        oldest.wasUsed = false;
        this.#table.requeue(oldest);
        continue;
      }
      this.#table.drop(oldest.inode);
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
    if (this.#isOvertaken(question, [subjectOfName(directory, name), attributes?.inode])) return false;
    if (this.#mayBeMoving(directory)) return false;
    const { sequence } = grant;
    const own = this.#table.directory(directory)?.own(name);
    if (own !== undefined && own.sequence > sequence) return false;
    const facts = this.#table.cover(directory, grant.lease);
    if (attributes === undefined) this.#table.lack(facts, name, sequence);
    else this.#table.know(facts, { name, attributes, sequence });
    return true;
  }

  /** A change of this satellite concerns the answer, or has since the question was asked. */
  #isOvertaken({ overtakenBy }: Question, subjects: readonly (Subject | undefined)[]): boolean {
    if (this.own.concerns(subjects)) return true;
    return overtakenBy.some((change) => {
      const changed = subjectsOf(change);
      return subjects.some((subject) => subject !== undefined && changed.has(subject));
    });
  }

  #mayBeMoving(directory: InodeNumber): boolean {
    const { moving } = this.own;
    return moving !== undefined && this.#table.mayLieIn(directory, moving);
  }

  #update(
    update: NameUpdate<InodeAttributes>,
    { sequence, names }: { readonly sequence: Sequence; readonly names: DroppedName[] },
  ): void {
    const { name: of, inode } = update;
    const { directory, name } = of;
    const facts = this.#table.directory(directory);
    const known = facts && sequenceOf(facts, name);
    if (facts === undefined || known === undefined || sequence <= known) return;
    const own = facts.own(name);
    if (!this.own.admits(update, sequence)) return this.#withdraw(facts, of, { sequence: known, names });
    if (inode === undefined) this.#table.lack(facts, name, sequence);
    else this.#table.know(facts, { name, attributes: inode, sequence });
    if (own?.state !== 'withdrawn') names.push(droppedName(of, own));
  }

  /** @param names what the kernel must drop is added */
  #withdraw(
    facts: DirectoryFacts,
    of: LeasedName,
    { sequence, names }: { readonly sequence: Sequence; readonly names: DroppedName[] },
  ): void {
    const { name, attributesOnly } = of;
    const own = facts.own(name);
    const wasShown = own?.state === 'withdrawn' ? own.mayBeShown : own !== undefined;
    // The entry stays, and whoever changes what it stands for must find it.
    this.#table.withdraw(facts, name, { sequence, mayBeShown: wasShown && attributesOnly });
    if (own?.state !== 'withdrawn' || (own.mayBeShown && !attributesOnly)) names.push(droppedName(of, own));
  }

  #retain(
    keep: readonly LeaseReference[],
    { withStale = false }: { readonly withStale?: boolean } = {},
  ): Dropped {
    this.questions.markAll(Infinity);
    const everything = this.size > 0;
    this.#isStale = false;
    this.#table.retain(keep, { withStale });
    return { names: [], everything };
  }

  /** Whatever is, or may be, at or below these directories. */
  #dropBelow(tops: readonly InodeNumber[], sequence: Sequence): boolean {
    this.questions.markAll(sequence);
    const below = [...this.#table.directories()].filter(({ inode }) => this.#table.mayLieIn(inode, tops));
    let some = false;
    for (const { inode } of below) some = this.#table.drop(inode) || some;
    return some;
  }
}

/** Since when what is known of a name holds; undefined: nothing is known of it. */
function sequenceOf(facts: DirectoryFacts, name: string): Sequence | undefined {
  return facts.own(name)?.sequence ?? facts.absence(name)?.highest;
}

/** @param was undefined: it lay in a listing, which showed that it is absent */
function droppedName(name: LeasedName, was: Fact | undefined): DroppedName {
  const inode = was?.state === 'known' ? was.attributes.inode : undefined;
  return { ...name, inode, wasAsked: was !== undefined };
}
