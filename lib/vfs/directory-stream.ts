/**
 * What one open directory shows: `.` and `..`, then the listing, at offsets that stay stable until it is closed.
 *
 * Offset 0 begins a new pass over the directory, as rewinddir(3) wants. The next page is loaded while the current one is
 * consumed; a reply is cut short rather than made to wait for it.
 */
import type { Clock } from '../base/clock.ts';
import type { DirectoryEntry, Namespace } from '../namespace/namespace.ts';
import { directoryType } from './attributes.ts';
import { bounded } from './bounded.ts';
import { DirectoryPages } from './directory-pages.ts';
import { encodeName } from './names.ts';
import type { Node } from './node-table.ts';

/** One record on its way to the kernel; `entry` is undefined for `.` and `..`. */
export interface StreamRecord {
  readonly name: Uint8Array;
  readonly inode: bigint;
  readonly type: number;
  readonly nextOffset: bigint;
  readonly entry: DirectoryEntry | undefined;
}

/** Offsets of `.` and `..`; listed entries follow. */
const DOTS = 2;
const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

export interface DirectoryStreamOptions {
  readonly namespace: Namespace;
  readonly clock: Clock;
  /** Of one page. */
  readonly deadlineMs: number;
  /** How often a name of the directory was dropped. */
  readonly drops: () => number;
  /** A pass ends of which not all was held, or is no more: the end is told after this returns. */
  readonly onLooseEnd: () => void;
  /** A listed name that cannot be shown. */
  readonly onBadName: (name: string) => void;
}

export class DirectoryStream {
  readonly #directory: Node;
  readonly #options: DirectoryStreamOptions;
  /** Made for those that wait: most directories are opened for a listing that the kernel has. */
  #closed: AbortController | undefined;
  #pages: DirectoryPages;
  /** The first page was loaded, and nothing was read of this pass. */
  #isFresh = false;
  /** Of this pass: all its pages were held. */
  #isHeld = true;
  #dropsBefore = 0;

  constructor(directory: Node, options: DirectoryStreamOptions) {
    this.#directory = directory;
    this.#options = options;
    this.#pages = this.#newPages();
  }

  /** Loads the first page; after that it may be known whether the directory is held whole. */
  async load(options: { readonly signal: AbortSignal }): Promise<void> {
    this.#begin();
    this.#isFresh = true;
    const { clock, deadlineMs } = this.#options;
    await bounded(clock, { signal: options.signal, deadlineMs }, () => this.#pages.at(0));
  }

  /** Gives records from `offset` on until `take` answers false or the end is reached. */
  async read(
    offset: bigint,
    take: (record: StreamRecord) => boolean,
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    if (offset === 0n && !this.#isFresh) this.#begin();
    this.#isFresh = false;
    const pages = this.#pages;
    let position = Number(offset);
    for (; position < DOTS; position++) if (!take(this.#dot(position))) return;
    for (let taken = 0; taken === 0 || pages.isReady(position - DOTS);) {
      const page = await bounded(
        this.#options.clock,
        { signal: options.signal, deadlineMs: this.#options.deadlineMs },
        () => pages.at(position - DOTS),
      );
      if (page === undefined) {
        if (!this.#isHeld || this.#dropsBefore !== this.#options.drops()) this.#options.onLooseEnd();
        return;
      }
      pages.prefetchAfter(page);
      const first = position - DOTS - page.firstPosition;
      for (const entry of page.entries.slice(first)) {
        position += 1;
        const record = entry && this.#record(entry, BigInt(position));
        if (record === undefined) continue;
        if (!take(record)) return;
        taken += 1;
      }
    }
  }

  close(): void {
    this.#closed?.abort();
  }

  #begin(): void {
    this.#pages = this.#newPages();
    this.#isHeld = true;
    this.#dropsBefore = this.#options.drops();
  }

  #newPages(): DirectoryPages {
    const { namespace, clock, deadlineMs } = this.#options;
    return new DirectoryPages(async (page) => {
      const { signal: closed } = (this.#closed ??= new AbortController());
      const listed = await bounded(clock, { signal: closed, deadlineMs }, (signal) =>
        namespace.list(this.#directory.inode, page, { signal }),
      );
      this.#isHeld &&= listed.isHeld;
      return listed;
    });
  }

  #dot(position: number): StreamRecord {
    const of = position === 0 ? this.#directory : (this.#directory.parent ?? this.#directory);
    return {
      name: position === 0 ? DOT : DOT_DOT,
      inode: of.inode,
      type: directoryType('directory'),
      nextOffset: BigInt(position + 1),
      entry: undefined,
    };
  }

  #record(entry: DirectoryEntry, nextOffset: bigint): StreamRecord | undefined {
    const name = encodeName(entry.name);
    if (name === undefined) {
      this.#options.onBadName(entry.name);
      return undefined;
    }
    const { inode, kind } = entry.attributes;
    return { name, inode, type: directoryType(kind), nextOffset, entry };
  }
}
