/**
 * Notices new versions of files for which a policy says `publish`, whoever commits them.
 *
 * The origin tells the holders of a directory's lease what its names have become; so the directories of such policies are
 * listed, which leases them, and what changes in them is known at once. A directory whose lease was lost (the session, a
 * recall, too many names) is listed again, and what has another version than before was published meanwhile. What was
 * there when the policy came into force is not new; what lies in a directory that appears is, since whole directories are
 * committed by renaming them.
 *
 * Bounded: `DIRECTORIES_MAX` directories and `NAMES_MAX` names are watched; what lies beyond is counted, and left out.
 */
import type { InodeNumber, VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { InodeAttributes } from '../namespace/namespace.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { PolicyPrefetch } from './policy-prefetch.ts';
import { entries, find, type Names, type Place } from './walk.ts';

/** Directories that are not held are looked for this often. */
const LOOK_MS = 1_000;
/** One that cannot be held is listed no more often. */
const AGAIN_MS = 5_000;
const DIRECTORIES_MAX = 2_000;
const NAMES_MAX = 200_000;

export interface PublishWatchOptions {
  readonly policies: PolicyPrefetch;
  readonly names: Names;
  readonly onPublished: (path: string, attributes: InodeAttributes) => void;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

interface Watched extends Place {
  readonly versions: Map<string, VersionId>;
  listedMs: number;
}

export class PublishWatch {
  readonly #options: PublishWatchOptions;
  readonly #watched = new Map<InodeNumber, Watched>();
  readonly #closed = new AbortController();
  #stop: () => void = () => undefined;
  #prefixes: readonly string[] = [];
  #names = 0;
  #isLooking = false;

  constructor(options: PublishWatchOptions) {
    this.#options = options;
  }

  get directories(): number {
    return this.#watched.size;
  }

  /** Another set of policies holds. */
  changed(): void {
    const { policies, clock } = this.#options;
    const prefixes = policies
      .policies()
      .filter(({ states }) => states['prefetch.on']?.includes('publish') === true)
      .map(({ match }) => match.prefix);
    if (prefixes.join('\0') === this.#prefixes.join('\0')) return;
    this.#prefixes = prefixes;
    this.#stop();
    for (const watched of [...this.#watched.values()])
      if (!this.#isMeant(watched.path)) this.#forget(watched);
    if (prefixes.length === 0) return;
    this.#stop = clock.every(LOOK_MS, () => void this.#look());
    void this.#look();
  }

  /** By the origin, of a directory whose lease is held. */
  updated(directory: InodeNumber, name: string, attributes: InodeAttributes | undefined): void {
    const watched = this.#watched.get(directory);
    if (watched === undefined) return;
    const known = watched.versions.get(name);
    if (attributes === undefined) {
      if (watched.versions.delete(name)) this.#names -= 1;
    } else if (attributes.kind === 'directory') {
      void this.#run(() => this.#list({ inode: attributes.inode, path: pathIn(watched, name) }, true));
    } else if (attributes.source !== undefined && attributes.source.version !== known) {
      this.#note(watched, name, attributes.source.version);
      this.#options.onPublished(pathIn(watched, name), attributes);
    }
  }

  close(): void {
    this.#stop();
    this.#closed.abort();
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    await this.#run(async () => {
      await this.#findTops();
      const { names, clock } = this.#options;
      for (const watched of [...this.#watched.values()]) {
        if (names.isListingHeld(watched.inode) || clock.nowMs() - watched.listedMs < AGAIN_MS) continue;
        await this.#list(watched, false);
      }
    });
    this.#isLooking = false;
  }

  /** The directories where the policies' prefixes begin; one that is not there may come. */
  async #findTops(): Promise<void> {
    const { names } = this.#options;
    for (const prefix of this.#prefixes) {
      const path = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')));
      const top = await find(path, { names, signal: this.#closed.signal });
      if (top?.kind === 'directory' && !this.#watched.has(top.inode)) {
        await this.#list({ inode: top.inode, path }, false);
      }
    }
  }

  /** @param isNew whatever is in it was published with it */
  async #list(place: Place, isNew: boolean): Promise<void> {
    const { names, metrics, clock, onPublished } = this.#options;
    if (!this.#isMeant(place.path)) return;
    let watched = this.#watched.get(place.inode);
    const wasWatched = watched !== undefined;
    if (watched === undefined) {
      if (this.#watched.size >= DIRECTORIES_MAX || this.#names >= NAMES_MAX) {
        return metrics.limitReached.inc({ limit: 'prefetch_watched' });
      }
      watched = { ...place, versions: new Map(), listedMs: 0 };
      this.#watched.set(place.inode, watched);
    }
    watched.listedMs = clock.nowMs();
    for await (const { name, attributes } of entries(place.inode, { names, signal: this.#closed.signal })) {
      const { source, inode } = attributes;
      if (source !== undefined && watched.versions.get(name) !== source.version) {
        this.#note(watched, name, source.version);
        if (isNew || wasWatched) onPublished(pathIn(watched, name), attributes);
      } else if (attributes.kind === 'directory' && !this.#watched.has(inode)) {
        await this.#list({ inode, path: pathIn(watched, name) }, isNew || wasWatched);
      }
    }
  }

  async #run(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      this.#options.logger.debug({ cause: describeError(error) }, 'watched directories could not be listed');
    }
  }

  #isMeant(path: string): boolean {
    const below = path === '' ? '' : `${path}/`;
    return this.#prefixes.some((prefix) => below.startsWith(prefix) || prefix.startsWith(below));
  }

  #note(watched: Watched, name: string, version: VersionId): void {
    if (!watched.versions.has(name)) this.#names += 1;
    watched.versions.set(name, version);
  }

  #forget(watched: Watched): void {
    this.#watched.delete(watched.inode);
    this.#names -= watched.versions.size;
  }
}

function pathIn({ path }: Place, name: string): string {
  return path === '' ? name : `${path}/${name}`;
}
