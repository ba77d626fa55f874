/**
 * The tree of one export: answers from the index where the index is certain, and asks the store where it is not.
 *
 * What is certain: a row whose object was asked; in a listed directory, or in the settled part of one that is being
 * listed, every name and every absence, but attributes that only the object tells (files of no bytes, directories,
 * and with `attributes=head` all). An absence elsewhere is asked for each time, and remembered as told.
 * Concurrent questions for one name are one question to the store. What was told changes through the gate: facts.ts.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { Absences } from './absences.ts';
import type { ChangeGate } from '../changes/change-gate.ts';
import { DirectoryListing } from './directory-listing.ts';
import type { ExportOptions } from '../export-options.ts';
import { Facts, type OccupiedKeys } from './facts.ts';
import type { IndexedDirectory, IndexedInode } from '../index/index-rows.ts';
import { nameProblem } from './key-names.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OpenQuestions } from './open-questions.ts';
import { OriginError } from '../origin.ts';
import { STORE_CALL_DEADLINE_MS, type StoreCalls } from './store-calls.ts';
import { StoreProbe } from './store-probe.ts';

/** A page of a listing is answered short after this time, if it has anything. */
const LIST_PATIENCE_MS = 2_000;
/** Objects asked for their attributes before the page that shows them is answered, at once. */
const RESOLVE_AT_ONCE = 128;
/** Directories whose listing is under way or was left in the middle. */
const LISTINGS_MAX = 10_000;
/** Names that a directory's first users ask for one by one, two calls each, before it is listed for the others. */
const ASKS_BEFORE_LISTING = 8;
/** Pages listed because of lookups alone; a directory beyond that is one in which few names are used. */
const PAGES_AHEAD_MAX = 200;
/** Directories whose lookups are counted. */
const COUNTED_DIRECTORIES_MAX = 10_000;

/** Told of listed directories. */
export interface DirectoryWatch {
  /** Something is answered from it. */
  used(directory: number): void;
  /** It was just listed. */
  listed(directory: number): void;
}

export interface TreePage {
  readonly entries: readonly IndexedInode[];
  readonly more: boolean;
}

export class ExportTree {
  readonly #exportId: number;
  readonly #options: ExportOptions;
  readonly #index: NamespaceIndex;
  readonly #store: StoreCalls;
  readonly #clock: Clock;
  readonly probe: StoreProbe;
  /** For whoever changes names: open-questions.ts, absences.ts, facts.ts. */
  readonly questions = new OpenQuestions();
  readonly absences: Absences;
  readonly facts: Facts;
  readonly #listings = new Map<number, DirectoryListing>();
  readonly #questions = new Map<string, Promise<IndexedInode | undefined>>();
  #watch: DirectoryWatch = { used: () => undefined, listed: () => undefined };
  /** Lookups that the index could not answer, by directory. */
  readonly #asks = new Map<number, number>();

  constructor(options: {
    readonly exportId: number;
    readonly options: ExportOptions;
    readonly index: NamespaceIndex;
    readonly store: StoreCalls;
    readonly clock: Clock;
    readonly gate: ChangeGate;
    readonly occupied: OccupiedKeys;
  }) {
    this.#exportId = options.exportId;
    this.#options = options.options;
    this.#index = options.index;
    this.#store = options.store;
    this.#clock = options.clock;
    this.probe = new StoreProbe({
      store: options.store,
      identity: options.options.identity,
      clock: options.clock,
    });
    this.absences = new Absences({ gate: options.gate });
    this.facts = new Facts({
      ...options,
      probe: this.probe,
      absences: this.absences,
      questions: this.questions,
    });
  }

  watchDirectories(watch: DirectoryWatch): void {
    this.#watch = watch;
  }

  async root(): Promise<IndexedInode> {
    return this.attributes(Number(ROOT_INODE));
  }

  /** @throws OriginError `not-found`, `not-directory`, and what the store's failures become */
  async lookup(directory: number, name: string): Promise<IndexedInode | undefined> {
    if (nameProblem(name) !== undefined) return undefined;
    const parent = await this.#directory(directory);
    if (parent.state === 'listed') this.#watch.used(directory);
    const child = await this.#index.child(this.#key(directory), name);
    const isNameCertain = this.#isNameCertain(parent, name);
    if (child !== undefined && this.#isCertain(child, isNameCertain)) return child;
    const found =
      child === undefined && isNameCertain
        ? undefined
        : await this.#ask(parent, name, isNameCertain ? child : undefined);
    return found ?? this.#absent(parent, name);
  }

  /** An absence is remembered before the index is read for the last time, so that it cannot appear unnoticed. */
  async #absent(parent: IndexedDirectory, name: string): Promise<IndexedInode | undefined> {
    if (parent.state === 'listed') return undefined;
    await this.absences.room();
    this.absences.remember(parent.inode, name);
    const appeared = await this.#index.child(this.#key(parent.inode), name);
    if (appeared !== undefined) this.absences.drop(parent.inode, name);
    return appeared;
  }

  /** @throws OriginError `not-found`, and what the store's failures become */
  async attributes(inode: number): Promise<IndexedInode> {
    const known = await this.#index.inode(this.#exportId, inode);
    if (known === undefined) throw gone(inode);
    if (known.resolved) return known;
    const parent = await this.#directory(known.parent);
    const isNameCertain = this.#isNameCertain(parent, known.name);
    if (this.#isCertain(known, isNameCertain)) return known;
    const now = await this.#ask(parent, known.name, isNameCertain ? known : undefined);
    if (now?.inode !== inode) throw gone(inode);
    return now;
  }

  /**
   * Entries with names above `after`, in the order of their UTF-8 bytes. May be short of `entriesMax` with `more`,
   * never empty with it.
   *
   * @throws OriginError `not-found`, `not-directory`, `timeout`, and what the store's failures become
   */
  async list(
    directory: number,
    page: { readonly after: string; readonly entriesMax: number },
  ): Promise<TreePage> {
    const startedMs = this.#clock.nowMs();
    const spentMs = (): number => this.#clock.nowMs() - startedMs;
    let { after } = page;
    for (;;) {
      const parent = await this.#directory(directory);
      if (parent.state === 'listed') this.#watch.used(directory);
      const listing = parent.state === 'listed' ? undefined : this.#listing(parent);
      const rows = await this.#settledRows(parent, { listing, after, limit: page.entriesMax + 1 });
      const isComplete = listing === undefined && rows.length <= page.entriesMax;
      if (isComplete || rows.length > page.entriesMax || (rows.length > 0 && spentMs() > LIST_PATIENCE_MS)) {
        const wanted = rows.slice(0, page.entriesMax);
        const { entries, resolved } = await this.#resolve(parent, wanted, spentMs);
        const more = !isComplete || resolved < wanted.length;
        if (entries.length > 0 || !more) return { entries, more };
        // Everything on this page went while it was looked at.
        after = wanted[resolved - 1]?.name ?? after;
        continue;
      }
      if (spentMs() > STORE_CALL_DEADLINE_MS) {
        throw new OriginError('timeout', 'the object store lists too slowly', {
          hint: 'try again: the listing goes on from where it has come',
        });
      }
      await this.#advance(parent);
    }
  }

  /** Brings the listing of a directory to its end. @throws OriginError */
  async complete(directory: number): Promise<void> {
    for (;;) {
      const parent = await this.#directory(directory);
      if (parent.state === 'listed') return;
      await this.#advance(parent);
    }
  }

  /** The keys of the directory are others now. */
  forgetListing(directory: number): void {
    this.#listings.delete(directory);
  }

  /** A fetch found that the object is no longer this version: looks again, unless that has happened since. */
  async reportStale(inode: number, versionId: string): Promise<void> {
    const known = await this.#index.inode(this.#exportId, inode);
    if (known?.version?.id !== versionId) return;
    const parent = await this.#directory(known.parent);
    await this.#questions.get(questionKey(parent.inode, known.name))?.catch(() => undefined);
    const still = await this.#index.inode(this.#exportId, inode);
    if (still?.version?.id !== versionId) return;
    await this.#ask(parent, known.name, undefined);
  }

  #key(directory: number) {
    return { exportId: this.#exportId, directory };
  }

  async #directory(inode: number): Promise<IndexedDirectory> {
    const directory = await this.#index.directory(this.#key(inode));
    if (directory !== undefined) return directory;
    if ((await this.#index.inode(this.#exportId, inode)) === undefined) throw gone(inode);
    throw new OriginError('not-directory', `inode ${inode} is not a directory`);
  }

  #listing(directory: IndexedDirectory): DirectoryListing {
    let listing = this.#listings.get(directory.inode);
    if (listing === undefined) {
      listing = new DirectoryListing({
        key: this.#key(directory.inode),
        directory,
        index: this.#index,
        store: this.#store,
        probe: this.probe,
        facts: this.facts,
      });
      // A listing that is dropped goes on from the index when it is wanted again.
      const [oldest] = this.#listings.size >= LISTINGS_MAX ? this.#listings.keys() : [];
      if (oldest !== undefined) this.#listings.delete(oldest);
      this.#listings.set(directory.inode, listing);
    }
    return listing;
  }

  async #advance(directory: IndexedDirectory): Promise<void> {
    await this.#listing(directory).advance();
    const state = (await this.#index.directory(this.#key(directory.inode)))?.state;
    if (state === 'listing') return;
    this.#listings.delete(directory.inode);
    if (state === 'listed') this.#watch.listed(directory.inode);
  }

  /** A directory in which several names are looked up is listed behind the lookups: one call finds a thousand names. */
  #countAsk(directory: IndexedDirectory): void {
    const asks = (this.#asks.get(directory.inode) ?? 0) + 1;
    if (asks === 1 && this.#asks.size >= COUNTED_DIRECTORIES_MAX) this.#asks.clear();
    this.#asks.set(directory.inode, asks);
    if (asks === ASKS_BEFORE_LISTING) void this.#listAhead(directory);
  }

  async #listAhead(directory: IndexedDirectory): Promise<void> {
    try {
      for (let pages = 0; pages < PAGES_AHEAD_MAX; pages++) {
        const now = await this.#index.directory(this.#key(directory.inode));
        if (now === undefined || now.state === 'listed') return;
        await this.#advance(now);
      }
    } catch {
      // Whoever looks up a name sees for himself what is wrong with the store.
      this.#asks.delete(directory.inode);
    }
  }

  /** Presence, absence and kind are what the index says. */
  #isNameCertain(parent: IndexedDirectory, name: string): boolean {
    return parent.state === 'listed' || this.#listings.get(parent.inode)?.isSettled(name) === true;
  }

  #isCertain(child: IndexedInode, isNameCertain: boolean): boolean {
    if (child.resolved) return true;
    if (!isNameCertain || child.kind === 'directory' || this.#options.attributes === 'head') return false;
    return (child.version?.sizeBytes ?? 0) > 0;
  }

  async #settledRows(
    parent: IndexedDirectory,
    page: { readonly listing: DirectoryListing | undefined; readonly after: string; readonly limit: number },
  ): Promise<IndexedInode[]> {
    const below = page.listing?.settledBelow;
    if (page.listing !== undefined && below === undefined) return [];
    return this.#index.children(this.#key(parent.inode), { after: page.after, below, limit: page.limit });
  }

  /** Asks the objects whose kind or attributes are still unknown, as many as patience allows. */
  async #resolve(
    parent: IndexedDirectory,
    rows: readonly IndexedInode[],
    spentMs: () => number,
  ): Promise<{ entries: IndexedInode[]; resolved: number }> {
    const entries: IndexedInode[] = [];
    let resolved = 0;
    while (resolved < rows.length && (resolved === 0 || spentMs() <= LIST_PATIENCE_MS)) {
      // Directories show their defaults in a page until they are looked up: there may be many, and few have markers.
      const piece = takeWithUnknown(rows.slice(resolved), (row) => this.#isUnknownInPage(row));
      const unknown = piece.filter((row) => this.#isUnknownInPage(row));
      const known = new Map<string, IndexedInode | undefined>();
      if (unknown.length > 0) {
        const rows = await this.facts.ask(
          parent,
          unknown.map((row) => ({ name: row.name, known: kindToAsk(row) })),
        );
        unknown.forEach(({ name }, at) => known.set(name, rows[at]));
      }
      for (const row of piece) {
        const entry = known.has(row.name) ? known.get(row.name) : row;
        if (entry !== undefined) entries.push(entry);
      }
      resolved += piece.length;
    }
    return { entries, resolved };
  }

  #isUnknownInPage(row: IndexedInode): boolean {
    if (row.kind === 'directory' && this.#options.attributes === 'list') return false;
    return !this.#isCertain(row, true);
  }

  #ask(
    parent: IndexedDirectory,
    name: string,
    known: IndexedInode | undefined,
  ): Promise<IndexedInode | undefined> {
    const key = questionKey(parent.inode, name);
    let question = this.#questions.get(key);
    if (question === undefined) {
      if (known === undefined) this.#countAsk(parent);
      question = this.#find(parent, name, known).finally(() => this.#questions.delete(key));
      this.#questions.set(key, question);
    }
    return question;
  }

  async #find(
    parent: IndexedDirectory,
    name: string,
    known: IndexedInode | undefined,
  ): Promise<IndexedInode | undefined> {
    const asked = { name, known: known === undefined ? undefined : kindToAsk(known) };
    const [found] = await this.facts.ask(parent, [asked]);
    return found;
  }
}

function kindToAsk(row: IndexedInode): 'file' | 'directory' {
  return row.kind === 'directory' ? 'directory' : 'file';
}

/** The longest beginning of `rows` with at most RESOLVE_AT_ONCE unknown ones. */
function takeWithUnknown(
  rows: readonly IndexedInode[],
  isUnknown: (row: IndexedInode) => boolean,
): readonly IndexedInode[] {
  let unknown = 0;
  const end = rows.findIndex((row) => isUnknown(row) && ++unknown > RESOLVE_AT_ONCE);
  return end === -1 ? rows : rows.slice(0, end);
}

function questionKey(directory: number, name: string): string {
  return `${directory}/${name}`;
}

function gone(inode: number): OriginError {
  return new OriginError('not-found', `inode ${inode} is gone`);
}
