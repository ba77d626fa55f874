/**
 * Files of this host that have no version yet: shown here above what the origin knows of names, and nowhere else.
 *
 * - A pending file hides whatever has its name. What it is shown as is what it was made with.
 * - While its name is being removed or renamed it is not known what the name is; whoever asks waits for the end.
 * - A listing that was asked for before a file was committed shows the file, though the origin's answer may not: it has
 *   been there all the time.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { NamePlace, WriteGrant } from './changes.ts';
import { compareNames } from './name-order.ts';
import type { DirectoryEntry, InodeAttributes, ListPage } from './namespace.ts';

export interface PendingFile {
  readonly grant: WriteGrant;
  readonly attributes: InodeAttributes;
  readonly place: NamePlace;
  /** The end of a change of its name. */
  readonly changing: Promise<unknown> | undefined;
}

type Mutable = { -readonly [Key in keyof PendingFile]: PendingFile[Key] };

/** A listing under way. */
export interface ListingView {
  readonly directory: InodeNumber;
  /** Files that were committed since it was asked for. */
  readonly committed: Map<string, InodeAttributes>;
}

export class PendingFiles {
  readonly #byPlace = new Map<InodeNumber, Map<string, Mutable>>();
  readonly #byInode = new Map<InodeNumber, Mutable>();
  readonly #views = new Set<ListingView>();

  get size(): number {
    return this.#byInode.size;
  }

  at(parent: InodeNumber, name: string): PendingFile | undefined {
    return this.#byPlace.get(parent)?.get(name);
  }

  inode(inode: InodeNumber): PendingFile | undefined {
    return this.#byInode.get(inode);
  }

  isIn(directory: InodeNumber): boolean {
    return this.#byPlace.has(directory);
  }

  has(file: PendingFile): boolean {
    return this.#byInode.get(file.attributes.inode) === file;
  }

  add(file: Omit<PendingFile, 'changing'>): void {
    const { attributes, place } = file;
    this.#take(this.#byInode.get(attributes.inode));
    this.#take(this.#byPlace.get(place.parent)?.get(place.name));
    const added = { ...file, changing: undefined };
    this.#byInode.set(attributes.inode, added);
    this.#put(added);
  }

  /** Its name is being changed until `end` settles. */
  change(file: PendingFile, end: Promise<unknown>): void {
    const own = this.#byInode.get(file.attributes.inode);
    if (own !== file) return;
    own.changing = end;
    const done = (): void => {
      if (own.changing === end) own.changing = undefined;
    };
    end.then(done, done);
  }

  /** Nothing happens if it is pending no more. */
  move(file: PendingFile, place: NamePlace): void {
    const own = this.#byInode.get(file.attributes.inode);
    if (own !== file) return;
    this.#leave(own);
    this.#take(this.#byPlace.get(place.parent)?.get(place.name));
    own.place = place;
    this.#put(own);
  }

  /** Each gets the place of the other. */
  exchange(one: PendingFile, other: PendingFile): void {
    if (!this.has(one) || !this.has(other)) return;
    const files = [one as Mutable, other as Mutable] as const;
    const places = [other.place, one.place] as const;
    for (const file of files) this.#leave(file);
    files.forEach((file, at) => {
      file.place = places[at] as NamePlace;
      this.#put(file);
    });
  }

  /** It has a version now: whoever asks from now on is told by the origin. */
  committed(file: PendingFile, attributes: InodeAttributes): void {
    if (!this.has(file)) return;
    this.remove(file);
    const { parent, name } = file.place;
    for (const view of this.#views) if (view.directory === parent) view.committed.set(name, attributes);
  }

  remove(file: PendingFile): void {
    if (this.has(file)) this.#take(file);
  }

  // --- Listings ---

  /** To be called before the origin is asked for a page, and `close` when it has been shown. */
  view(directory: InodeNumber): ListingView {
    const view = { directory, committed: new Map<string, InodeAttributes>() };
    this.#views.add(view);
    return view;
  }

  close(view: ListingView): void {
    this.#views.delete(view);
  }

  /** A page of the origin with the names of this host in it. */
  show(
    page: ListPage,
    asked: {
      readonly directory: InodeNumber;
      readonly after: string;
      readonly entriesMax: number;
      readonly view?: ListingView;
    },
  ): ListPage {
    const { directory, after, entriesMax, view } = asked;
    const own = this.#byPlace.get(directory);
    if (own === undefined && (view?.committed.size ?? 0) === 0) return page;
    const isInPage = (name: string): boolean =>
      compareNames(name, after) > 0 && (page.next === undefined || compareNames(name, page.next) <= 0);
    const shown = new Map<string, InodeAttributes>();
    for (const [name, attributes] of view?.committed ?? []) if (isInPage(name)) shown.set(name, attributes);
    for (const { name, attributes } of page.entries) shown.set(name, attributes);
    for (const [name, { attributes }] of own ?? []) if (isInPage(name)) shown.set(name, attributes);
    const entries: DirectoryEntry[] = [...shown].map(([name, attributes]) => ({ name, attributes }));
    entries.sort((one, other) => compareNames(one.name, other.name));
    const isCut = entries.length > entriesMax;
    if (isCut) entries.length = entriesMax;
    return { entries, next: isCut ? entries.at(-1)?.name : page.next, isHeld: false };
  }

  // --- Within ---

  #put(file: Mutable): void {
    const { parent, name } = file.place;
    const names = this.#byPlace.get(parent) ?? new Map<string, Mutable>();
    this.#byPlace.set(parent, names.set(name, file));
  }

  #leave(file: Mutable): void {
    const { parent, name } = file.place;
    const names = this.#byPlace.get(parent);
    if (names?.get(name) !== file) return;
    names.delete(name);
    if (names.size === 0) this.#byPlace.delete(parent);
  }

  #take(file: Mutable | undefined): void {
    if (file === undefined) return;
    this.#leave(file);
    this.#byInode.delete(file.attributes.inode);
  }
}
