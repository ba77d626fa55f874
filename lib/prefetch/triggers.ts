/**
 * Turns what programs do, and what becomes of names, into orders: the triggers `open`, `list` and `publish` of policies.
 *
 * Each file is ordered by the policy that holds for itself, whatever file or directory made it be looked at. Names are
 * asked for beside the program, never before its answer; at most `QUESTIONS_MAX` such tasks are under way, `WAITING_MAX`
 * wait, and beyond that a trigger is dropped and counted: it was advice.
 */
import PQueue from 'p-queue';
import type { InodeNumber, VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { InodeAttributes } from '../namespace/namespace.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { ListedDirectory, OpenedFile, ReadAccess, UseListener } from './access-observer.ts';
import type { Jobs } from './jobs.ts';
import { ListingSequences } from './listing-sequences.ts';
import { NameSequences } from './name-sequences.ts';
import type { PolicyPrefetch, Trigger, Wish } from './policy-prefetch.ts';
import type { OrderSettings, Prefetcher } from './prefetcher.ts';
import type { WantedFile } from './prefetch.ts';
import { entries, filesBelow, find, type Names, wantedFile } from './walk.ts';

const QUESTIONS_MAX = 4;
const WAITING_MAX = 1_000;
/** A directory is not looked through again for the same reason within this time. */
const AGAIN_MS = 10_000;
const REMEMBERED_MAX = 10_000;
/** Files that are open and of which the rest is fetched when somebody reads. */
const RESTS_MAX = 10_000;

export interface TriggersOptions {
  readonly policies: PolicyPrefetch;
  readonly prefetcher: Prefetcher;
  readonly jobs: Jobs;
  readonly names: Names;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class Triggers implements UseListener {
  readonly #options: TriggersOptions;
  readonly #questions = new PQueue({ concurrency: QUESTIONS_MAX });
  readonly #closed = new AbortController();
  readonly #numbered = new NameSequences();
  readonly #listed = new ListingSequences();
  /** When a directory was looked through last, and why. */
  readonly #looked = new Map<string, number>();
  readonly #rests = new Map<VersionId, { readonly file: WantedFile; readonly wish: Wish }>();

  constructor(options: TriggersOptions) {
    this.#options = options;
  }

  opened(opened: OpenedFile): void {
    const { prefetcher, jobs, policies } = this.#options;
    prefetcher.opened(opened);
    jobs.opened(opened.path);
    if (!policies.has('open')) return;
    const { inode, source } = opened;
    const file = { inode, source, path: opened.path() };
    const wish = this.#wish(file, 'open');
    if (wish === undefined) return;
    switch (wish.what) {
      case 'file':
        return this.#want(file, wish, { isOpened: true });
      case 'rest-of-file':
        if (opened.cachedBytes() < source.sizeBytes) remember(this.#rests, source.version, { file, wish });
        return;
      case 'siblings':
        return this.#ask(() => this.#behind(opened, wish));
      case 'sequence':
        return this.#sequence(opened, wish);
      case 'subtree': {
        const { directory } = opened;
        if (directory === undefined || !this.#isDue(`open ${directory}`)) return;
        return this.#ask(() => this.#below({ inode: directory, path: parentOf(file.path) }, 'open'));
      }
    }
  }

  listed({ inode, path }: ListedDirectory): void {
    if (!this.#options.policies.has('list') || !this.#isDue(`list ${inode}`)) return;
    this.#ask(() => this.#below({ inode, path: path() }, 'list'));
  }

  /** Somebody reads a version that it has open. */
  read({ version, offset }: ReadAccess): void {
    const rest = this.#rests.get(version);
    if (rest === undefined) return;
    this.#rests.delete(version);
    this.#want(rest.file, rest.wish, { isOpened: true, fromOffset: offset });
  }

  closedFile(version: VersionId): void {
    this.#rests.delete(version);
  }

  /** A name stands for this from now on. */
  published(path: string, attributes: InodeAttributes): void {
    const file = wantedFile(path, attributes);
    const wish = file && this.#wish(file, 'publish');
    if (file !== undefined && wish !== undefined) this.#want(file, wish);
  }

  close(): void {
    this.#closed.abort();
    this.#questions.clear();
  }

  /** What its number says comes next; else what the listing says, when it was followed so far. */
  #sequence(opened: OpenedFile, wish: Wish): void {
    const { directory, name, path } = opened;
    if (directory === undefined) return;
    const next = this.#numbered.opened(directory, name, wish.ahead);
    if (next.length > 0) return this.#ask(() => this.#named(parentOf(path()), next));
    const isFollowed = this.#listed.opened(directory, name);
    this.#ask(() => this.#behind(opened, wish, isFollowed ? wish.ahead : 0));
  }

  async #named(directory: string, names: readonly string[]): Promise<void> {
    for (const name of names) {
      const path = directory === '' ? name : `${directory}/${name}`;
      const attributes = await find(path, this.#asking());
      const file = attributes && wantedFile(path, attributes);
      const wish = file && this.#wish(file, 'open');
      if (file !== undefined && wish !== undefined) this.#want(file, wish);
    }
  }

  /** Files behind this one in the listing of its directory; the first of them is noted, as the one that may follow. */
  async #behind({ directory, name, path }: OpenedFile, { ahead }: Wish, count = ahead): Promise<void> {
    if (directory === undefined) return;
    const folder = parentOf(path());
    let files = 0;
    for await (const entry of entries(directory, { ...this.#asking(), after: name })) {
      const file = wantedFile(folder === '' ? entry.name : `${folder}/${entry.name}`, entry.attributes);
      const wish = file && this.#wish(file, 'open');
      if (file === undefined || wish === undefined) continue;
      if (files === 0) this.#listed.follows(directory, { name, next: entry.name });
      if (files >= count) return;
      files += 1;
      this.#want(file, wish);
    }
  }

  async #below(top: { readonly inode: InodeNumber; readonly path: string }, trigger: Trigger): Promise<void> {
    const { policies } = this.#options;
    const depthMax = Math.max(1, ...policies.policies().map(({ states }) => states['prefetch.depth'] ?? 1));
    let files = 0;
    for await (const file of filesBelow(top, { ...this.#asking(), depthMax })) {
      const wish = this.#wish(file, trigger);
      if (wish === undefined || file.depth > (wish.what === 'subtree' ? wish.depth : 1)) continue;
      files += 1;
      if (files > wish.ahead && (wish.what === 'siblings' || wish.what === 'sequence')) continue;
      this.#want(file, wish, { isSoon: false });
    }
  }

  #wish({ path, source }: WantedFile, trigger: Trigger): Wish | undefined {
    const wish = this.#options.policies.wish({ path, sizeBytes: source.sizeBytes });
    return wish?.on.includes(trigger) === true ? wish : undefined;
  }

  #want(
    file: WantedFile,
    { policy, settings }: Wish,
    how: Pick<OrderSettings, 'isSoon' | 'isOpened' | 'fromOffset'> = {},
  ): void {
    this.#options.prefetcher.want(file, { lane: policy, settings, isSoon: true, ...how });
  }

  #asking() {
    return { names: this.#options.names, signal: this.#closed.signal };
  }

  #ask(task: () => Promise<void>): void {
    const { metrics, logger } = this.#options;
    if (this.#questions.size >= WAITING_MAX) return metrics.limitReached.inc({ limit: 'prefetch_triggers' });
    void this.#questions.add(async () => {
      try {
        await task();
      } catch (error) {
        if (!this.#closed.signal.aborted)
          logger.debug({ cause: describeError(error) }, 'a prefetch trigger failed');
      }
    });
  }

  #isDue(key: string): boolean {
    const nowMs = this.#options.clock.nowMs();
    const lastMs = this.#looked.get(key);
    if (lastMs !== undefined && nowMs - lastMs < AGAIN_MS) return false;
    this.#looked.delete(key);
    remember(this.#looked, key, nowMs, REMEMBERED_MAX);
    return true;
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** The oldest goes when there are too many. */
function remember<Key, Value>(map: Map<Key, Value>, key: Key, value: Value, max = RESTS_MAX): void {
  if (map.size >= max && !map.has(key)) map.delete(map.keys().next().value as Key);
  map.set(key, value);
}
