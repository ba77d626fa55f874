/**
 * One pass over a directory's listing, page by page, with stable positions.
 *
 * Every entry gets a position when its page is first loaded, and keeps it for the life of the pass. A few pages are
 * kept; of the others remain the name where they began and four bytes an entry. A page that is asked for again is listed
 * again and aligned with what it was: entries that have gone leave an empty position, entries that are new are left
 * out (POSIX leaves both open), all others stay where they were.
 *
 * Memory: `PAGES_KEPT` pages, and 4 bytes for each entry seen so far.
 */
import { crc32 } from 'node:zlib';
import { LIST_PAGE_ENTRIES } from '../base/limits.ts';
import type { DirectoryEntry, ListPage as ListedPage } from '../namespace/namespace.ts';

export const PAGES_KEPT = 4;

export interface DirectoryPage {
  readonly number: number;
  readonly firstPosition: number;
  /** Undefined: gone since its position was given. */
  readonly entries: readonly (DirectoryEntry | undefined)[];
  readonly last: boolean;
}

interface PageMark {
  readonly after: string | undefined;
  readonly next: string | undefined;
  readonly firstPosition: number;
  readonly lastName: Uint8Array;
  readonly nameHashes: Uint32Array;
}

export type ListPage = (page: {
  readonly after?: string;
  readonly entriesMax: number;
}) => Promise<ListedPage>;

export class DirectoryPages {
  readonly #list: ListPage;
  readonly #marks: PageMark[] = [];
  readonly #kept = new Map<number, DirectoryPage>();
  readonly #loading = new Map<number, Promise<DirectoryPage>>();

  constructor(list: ListPage) {
    this.#list = list;
  }

  /** The page with this position, or undefined beyond the end. Loads at most what lies between. */
  async at(position: number): Promise<DirectoryPage | undefined> {
    let number = this.#marks.findLastIndex((mark) => mark.firstPosition <= position);
    if (number === -1) number = 0;
    for (;;) {
      const page = await this.#page(number);
      if (position < page.firstPosition + page.entries.length) return page;
      if (page.last) return undefined;
      number += 1;
    }
  }

  /** Whether `at(position)` would answer without waiting. */
  isReady(position: number): boolean {
    for (const { firstPosition, entries } of this.#kept.values()) {
      if (position >= firstPosition && position < firstPosition + entries.length) return true;
    }
    return false;
  }

  /** Starts to load the page after this one. A failure is kept from nobody: the page will be asked for again. */
  prefetchAfter(page: DirectoryPage): void {
    if (page.last) return;
    this.#page(page.number + 1).catch(() => undefined);
  }

  async #page(number: number): Promise<DirectoryPage> {
    const kept = this.#kept.get(number);
    if (kept !== undefined) return kept;
    let loading = this.#loading.get(number);
    if (loading === undefined) {
      const mark = this.#marks[number];
      loading = (mark === undefined ? this.#loadNext(number) : this.#loadAgain(number, mark)).finally(() =>
        this.#loading.delete(number),
      );
      this.#loading.set(number, loading);
    }
    return loading;
  }

  async #loadNext(number: number): Promise<DirectoryPage> {
    const before = this.#marks[number - 1];
    const after = before?.next;
    const { entries, next } = await this.#list(pageAfter(after));
    const firstPosition = before === undefined ? 0 : before.firstPosition + before.nameHashes.length;
    const nameHashes = new Uint32Array(entries.length);
    for (const [index, entry] of entries.entries()) nameHashes[index] = crc32(entry.name);
    const lastName = Buffer.from(entries.at(-1)?.name ?? after ?? '', 'utf8');
    this.#marks[number] = { after, next, firstPosition, lastName, nameHashes };
    return this.#keep({ number, firstPosition, entries, last: next === undefined });
  }

  async #loadAgain(number: number, mark: PageMark): Promise<DirectoryPage> {
    const byHash = new Map<number, DirectoryEntry>();
    let after = mark.after;
    for (let done = false; !done;) {
      const { entries, next } = await this.#list(pageAfter(after));
      for (const entry of entries) {
        const order = Buffer.compare(Buffer.from(entry.name, 'utf8'), mark.lastName);
        if (order <= 0) byHash.set(crc32(entry.name), entry);
        if (order >= 0) done = true;
      }
      if (next === undefined) done = true;
      after = next;
    }
    const entries = Array.from(mark.nameHashes, (hash) => byHash.get(hash));
    const { firstPosition, next } = mark;
    return this.#keep({ number, firstPosition, entries, last: next === undefined });
  }

  #keep(page: DirectoryPage): DirectoryPage {
    this.#kept.set(page.number, page);
    for (const number of this.#kept.keys()) {
      if (this.#kept.size <= PAGES_KEPT) break;
      if (number !== page.number) this.#kept.delete(number);
    }
    return page;
  }
}

function pageAfter(after: string | undefined): { readonly after?: string; readonly entriesMax: number } {
  return after === undefined ? { entriesMax: LIST_PAGE_ENTRIES } : { after, entriesMax: LIST_PAGE_ENTRIES };
}
