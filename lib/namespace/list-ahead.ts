/**
 * Lists a directory behind its readers once several of its names were asked for one by one, so that a directory of
 * 10,000 files costs ten calls and not 10,000. Failures cost nothing but the calls: names go on being asked for.
 *
 * Bounded: `DIRECTORIES_MAX` at a time, of each one page at a time and `ENTRIES_MAX` entries in all.
 */
import type { InodeNumber } from '../base/brand.ts';
import { LIST_PAGE_ENTRIES } from '../base/limits.ts';
import type { RemotePage } from './remote-names.ts';

/** Questions about single names of one directory before it is worth a listing. */
export const NAMES_BEFORE_LISTING = 8;
const DIRECTORIES_MAX = 4;
const ENTRIES_MAX = 100_000;

/** One page from the origin, and whether it was kept. */
export type AskPage = (
  directory: InodeNumber,
  page: { readonly after: string; readonly entriesMax: number },
  options: { readonly signal: AbortSignal },
) => Promise<{ readonly page: RemotePage; readonly isKept: boolean }>;

export class ListAhead {
  readonly #askPage: AskPage;
  readonly #ended = new AbortController();
  readonly #running = new Set<InodeNumber>();

  constructor(askPage: AskPage) {
    this.#askPage = askPage;
  }

  /** Listings under way. */
  get size(): number {
    return this.#running.size;
  }

  /** @param asked how many names of the directory were asked for, one by one */
  asked(directory: InodeNumber, asked: number): void {
    // A listing that failed is tried again, ever more rarely.
    const isTime = asked >= NAMES_BEFORE_LISTING && Number.isInteger(Math.log2(asked / NAMES_BEFORE_LISTING));
    if (!isTime || this.#running.has(directory) || this.#running.size >= DIRECTORIES_MAX) return;
    this.#running.add(directory);
    this.#list(directory)
      .catch(() => undefined)
      .finally(() => this.#running.delete(directory));
  }

  close(): void {
    this.#ended.abort();
  }

  async #list(directory: InodeNumber): Promise<void> {
    const { signal } = this.#ended;
    let after = '';
    for (let entries = 0; entries < ENTRIES_MAX;) {
      const { page, isKept } = await this.#askPage(
        directory,
        { after, entriesMax: LIST_PAGE_ENTRIES },
        { signal },
      );
      if (!isKept || page.next === undefined) return;
      entries += page.entries.length;
      after = page.next;
    }
  }
}
