/**
 * Brings the listing of one directory from the store into the index, a page at a time, as far as somebody needs it.
 *
 * Guarantees: pages are fetched one after the other however many ask; what the index has below `settledBelow` is the
 * complete and final order of names there, so a directory of any size can be answered while it is still being listed;
 * when the end is reached, names that the listing did not meet are asked for one by one before the index says
 * `listed`. A listing that fails goes on from where it was, also after a restart.
 */
import { directoryName, objectName } from './key-names.ts';
import { compareBytes, settledBelow, unsettledNames } from './listing-order.ts';
import type { DirectoryKey, NamespaceIndex } from '../index/namespace-index.ts';
import type { IndexedDirectory, Placement } from '../index/index-rows.ts';
import type { ListPage } from '../../store/object-store.ts';
import type { StoreCalls } from './store-calls.ts';
import type { Facts } from './facts.ts';
import type { Question } from './open-questions.ts';
import type { StoreProbe } from './store-probe.ts';

/** Keys and prefixes in one page; the ceiling of S3. */
const PAGE_KEYS_MAX = 1_000;
/** Names asked for by themselves after one page; beyond it the page's end just settles less. */
const PROBES_PER_PAGE_MAX = 32;
/** Names looked at again at once at the end. */
const REVIEW_NAMES_MAX = 256;
/** Names remembered as asked for; forgetting some costs a call each. */
const ASKED_NAMES_MAX = 100_000;

export class DirectoryListing {
  readonly #key: DirectoryKey;
  readonly #directory: IndexedDirectory;
  readonly #index: NamespaceIndex;
  readonly #store: StoreCalls;
  readonly #probe: StoreProbe;
  readonly #facts: Facts;
  readonly #asked = new Set<string>();
  #token: string | undefined;
  #through: string | undefined;
  #settledBelow: string | undefined;
  #underWay: Promise<void> | undefined;

  constructor(options: {
    readonly key: DirectoryKey;
    readonly directory: IndexedDirectory;
    readonly index: NamespaceIndex;
    readonly store: StoreCalls;
    readonly probe: StoreProbe;
    readonly facts: Facts;
  }) {
    this.#key = options.key;
    this.#directory = options.directory;
    this.#index = options.index;
    this.#store = options.store;
    this.#probe = options.probe;
    this.#facts = options.facts;
    this.#through = options.directory.listedThrough;
  }

  /** Names below this one, exclusive, are final in the index; undefined: none are. */
  get settledBelow(): string | undefined {
    return this.#settledBelow;
  }

  isSettled(name: string): boolean {
    return this.#settledBelow !== undefined && compareBytes(name, this.#settledBelow) < 0;
  }

  /** Fetches the next page; concurrent callers share it. @throws OriginError */
  advance(): Promise<void> {
    this.#underWay ??= this.#fetchPage().finally(() => (this.#underWay = undefined));
    return this.#underWay;
  }

  async #fetchPage(): Promise<void> {
    const question = this.#facts.question(this.#key.directory);
    try {
      if (await this.#placePage(question)) {
        await this.#review();
        await this.#index.finishListing(this.#key);
      } else {
        await this.#settle(question);
      }
    } finally {
      question.end();
    }
  }

  /** @returns whether it was the last one */
  async #placePage(question: Question): Promise<boolean> {
    const { keyPrefix } = this.#directory;
    const token = this.#token;
    // A token that the store no longer takes is replaced by the place that we have reached.
    this.#token = undefined;
    const page = await this.#store.list({
      prefix: keyPrefix,
      delimiter: '/',
      keysMax: PAGE_KEYS_MAX,
      ...(token !== undefined ? { token } : this.#through === undefined ? {} : { startAfter: this.#through }),
    });
    for (const last of [page.objects.at(-1)?.key, page.prefixes.at(-1)]) {
      if (last !== undefined && (this.#through === undefined || compareBytes(last, this.#through) > 0)) {
        this.#through = last;
      }
    }
    await this.#facts.settle(this.#directory, placementsOf(page, { keyPrefix, probe: this.#probe }), {
      evidence: 'listing',
      question,
      listedThrough: this.#through,
    });
    this.#token = page.nextToken;
    return page.nextToken === undefined;
  }

  /** Asks for the directories that the store's order may bring only later. */
  async #settle(question: Question): Promise<void> {
    const { keyPrefix } = this.#directory;
    const through = this.#through?.slice(keyPrefix.length);
    if (through === undefined || through === '') return;
    const names = unsettledNames(through)
      .filter((name) => !this.#asked.has(name))
      .slice(0, PROBES_PER_PAGE_MAX);
    const exists = await Promise.all(names.map((name) => this.#probe.hasDirectory(keyPrefix + name)));
    const placements = names
      .filter((_, at) => exists[at])
      .map((name) => ({ name, found: this.#probe.listedDirectory() }))
      .filter(({ name }) => directoryName(keyPrefix, `${keyPrefix}${name}/`) !== undefined);
    if (placements.length > 0) {
      await this.#facts.settle(this.#directory, placements, {
        evidence: 'listing',
        question,
        listedThrough: this.#through,
      });
    }
    if (this.#asked.size > ASKED_NAMES_MAX) this.#asked.clear();
    for (const name of names) this.#asked.add(name);
    this.#settledBelow = settledBelow(through, this.#asked);
  }

  /** Looks again at names that were known before the listing and not met by it. */
  async #review(): Promise<void> {
    for (;;) {
      const names = await this.#index.unlistedNames(this.#key, REVIEW_NAMES_MAX);
      if (names.length === 0) return;
      await this.#facts.ask(
        this.#directory,
        names.map((name) => ({ name })),
      );
    }
  }
}

/** What a page of a delimited listing says about names of its directory. */
export function placementsOf(
  page: ListPage,
  { keyPrefix, probe }: { readonly keyPrefix: string; readonly probe: StoreProbe },
): Placement[] {
  const placements: Placement[] = [];
  for (const object of page.objects) {
    const name = objectName(keyPrefix, object.key);
    if (name !== undefined) placements.push({ name, found: probe.listed(object) });
  }
  for (const prefix of page.prefixes) {
    const name = directoryName(keyPrefix, prefix);
    if (name !== undefined) placements.push({ name, found: probe.listedDirectory() });
  }
  return placements;
}
