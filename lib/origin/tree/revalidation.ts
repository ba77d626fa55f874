/**
 * Compares what the index told of a listed directory with the object store, page by page, whatever its size.
 *
 * A page of the store covers a span of keys; the rows of that span which it does not show are asked for one by one.
 * Nothing is written where nothing differs; what differs changes through the gate (facts.ts). Until then what the
 * index says holds. `soon` does so by age, behind the answers: a directory older than asked for is compared again,
 * but never for more than a small part of the time.
 */
import PQueue from 'p-queue';
import type { Clock } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import type { Logger } from '../../telemetry/log.ts';
import { placementsOf } from './directory-listing.ts';
import type { Differences, Facts } from './facts.ts';
import type { IndexedDirectory } from '../index/index-rows.ts';
import { compareBytes, unsettledNames } from './listing-order.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { StoreCalls } from './store-calls.ts';
import type { StoreProbe } from './store-probe.ts';

const PAGE_KEYS_MAX = 1_000;
const ROWS_AT_ONCE = 1_000;
/** Directories compared behind answers at once, and waiting; more are left for their next use. */
const BEHIND_AT_ONCE = 4;
const BEHIND_WAITING_MAX = 1_000;
/** A comparison that took long is not done again before this many times its duration. */
const REST_FACTOR = 20;
/** Directories whose age is known; one that is forgotten is as good as old. */
const AGES_MAX = 200_000;

export interface PageCompared extends Differences {
  readonly names: number;
}

export class Revalidation {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #store: StoreCalls;
  readonly #probe: StoreProbe;
  readonly #facts: Facts;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #revalidateMs: number | undefined;
  /** When each directory may be compared again. */
  readonly #dueMs = new Map<number, number>();
  readonly #queue = new PQueue({ concurrency: BEHIND_AT_ONCE });

  /** @param options.revalidateMs undefined: nobody else changes the store */
  constructor(options: {
    readonly exportId: number;
    readonly index: NamespaceIndex;
    readonly store: StoreCalls;
    readonly probe: StoreProbe;
    readonly facts: Facts;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly revalidateMs: number | undefined;
  }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#store = options.store;
    this.#probe = options.probe;
    this.#facts = options.facts;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#revalidateMs = options.revalidateMs;
  }

  /** Somebody uses what the index says of a listed directory. */
  soon(directory: number): void {
    if (this.#revalidateMs === undefined) return;
    const startMs = this.#clock.nowMs();
    if ((this.#dueMs.get(directory) ?? 0) > startMs || this.#queue.size >= BEHIND_WAITING_MAX) return;
    this.#rest(directory, Infinity);
    void this.#queue.add(async () => {
      const begunMs = this.#clock.nowMs();
      try {
        const pages = this.compare(directory);
        while (!(await pages.next()).done);
      } catch (error) {
        this.#logger.debug({ directory }, `a directory could not be compared: ${describeError(error)}`);
      }
      this.listed(directory, this.#clock.nowMs() - begunMs);
    });
  }

  /** The directory is as the store has it now. */
  listed(directory: number, tookMs = 0): void {
    if (this.#revalidateMs === undefined) return;
    this.#rest(directory, this.#clock.nowMs() + Math.max(this.#revalidateMs, tookMs * REST_FACTOR));
  }

  /** Compares a listed directory; one step a page. @throws OriginError */
  async *compare(inode: number): AsyncGenerator<PageCompared> {
    const key = { exportId: this.#exportId, directory: inode };
    let token: string | undefined;
    let after = '';
    do {
      const directory = await this.#index.directory(key);
      if (directory === undefined) return;
      const { keyPrefix } = directory;
      const question = this.#facts.question(inode);
      try {
        const page = await this.#store.list({
          prefix: keyPrefix,
          delimiter: '/',
          keysMax: PAGE_KEYS_MAX,
          ...(token === undefined ? {} : { token }),
        });
        const placements = placementsOf(page, { keyPrefix, probe: this.#probe });
        const met = new Set(placements.map(({ name, found }) => placeOf(name, found?.kind)));
        const shown = await this.#facts.settle(directory, placements, { evidence: 'listing', question });
        token = page.nextToken;
        const last = [page.objects.at(-1)?.key ?? '', page.prefixes.at(-1) ?? ''].sort(compareBytes)[1] ?? '';
        const through = token === undefined ? undefined : last.slice(keyPrefix.length);
        const missed = await this.#review(directory, { after, through, met });
        after = through ?? '';
        yield {
          names: met.size,
          added: shown.added + missed.added,
          changed: shown.changed + missed.changed,
          gone: shown.gone + missed.gone,
        };
      } finally {
        question.end();
      }
    } while (token !== undefined);
  }

  /** Asks for the rows of a span of keys that the store's page does not show. */
  async #review(
    directory: IndexedDirectory,
    span: { readonly after: string; readonly through: string | undefined; readonly met: ReadonlySet<string> },
  ): Promise<Differences> {
    const { after, through, met } = span;
    const key = { exportId: this.#exportId, directory: directory.inode };
    const sum = { added: 0, changed: 0, gone: 0 };
    const review = async (names: readonly string[]): Promise<void> => {
      const differences = await this.#facts.review(
        directory,
        names.map((name) => ({ name })),
      );
      sum.added += differences.added;
      sum.changed += differences.changed;
      sum.gone += differences.gone;
    };
    const isInSpan = (place: string): boolean =>
      compareBytes(place, after) > 0 && (through === undefined || compareBytes(place, through) <= 0);
    // A directory `a` stands as `a/`, behind `a-b`, but its row is before that of `a-b`.
    const early = await Promise.all(unsettledNames(after).map((name) => this.#index.child(key, name)));
    const rowsOf = (rows: typeof early): string[] =>
      rows
        .filter((row) => row !== undefined)
        .filter(({ name, kind }) => !met.has(placeOf(name, kind)) && isInSpan(placeOf(name, kind)))
        .map(({ name }) => name);
    await review(rowsOf(early));
    const below = through === undefined ? undefined : `${through}\0`;
    for (let cursor = after, more = true; more;) {
      const rows = await this.#index.children(key, { after: cursor, below, limit: ROWS_AT_ONCE });
      await review(rowsOf(rows));
      cursor = rows.at(-1)?.name ?? cursor;
      more = rows.length === ROWS_AT_ONCE;
    }
    return sum;
  }

  #rest(directory: number, dueMs: number): void {
    this.#dueMs.delete(directory);
    this.#dueMs.set(directory, dueMs);
    const [oldest] = this.#dueMs.size > AGES_MAX ? this.#dueMs.keys() : [];
    if (oldest !== undefined) this.#dueMs.delete(oldest);
  }
}

/** Where a name stands among the keys of its directory. An object does not stand for a directory of its name. */
function placeOf(name: string, kind: string | undefined): string {
  return kind === 'directory' ? `${name}/` : name;
}
