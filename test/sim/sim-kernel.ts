/**
 * A kernel that has one satellite mounted: what it caches, for how long, and what its notifications wait for.
 *
 * It runs on the satellite's machine, not in its process: while the process is stopped it goes on to answer from what it
 * has cached, by the machine's clock, which is what makes a stopped satellite dangerous. Modelled after fs/fuse/dir.c:
 * an entry found while an epoch was current is good in that epoch only; a directory's lock is shared by its lookups and
 * listings under way, and a notification about a name of it waits for them; INC_EPOCH waits for nothing.
 */
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { Clock } from '../../lib/base/clock.ts';
import type {
  DirectoryEntry,
  DroppedName,
  InodeAttributes,
  Namespace,
  NamesListener,
} from '../../lib/namespace/namespace.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import type { SimProcess } from './sim-time.ts';

/** How long the satellite waits for a notification before it gives up every entry (fuse.md, rule 6). */
const NOTIFICATION_PATIENCE_MS = 50;
const PAGE_ENTRIES = 3;

/** The process behind the mount is gone: ENOTCONN. */
export class MountDeadError extends Error {}

interface CachedEntry {
  readonly attributes: InodeAttributes | undefined;
  readonly epoch: number;
  readonly untilMs: number;
  /** Attributes alone can be dropped. */
  attributesUntilMs: number;
}

interface Lock {
  holders: number;
  waiting: (() => void)[];
}

export interface Seen {
  readonly attributes: InodeAttributes | undefined;
  /** Answered without the satellite. */
  readonly isCached: boolean;
}

export class SimKernel implements NamesListener {
  /** Entries answered from the cache, notifications that waited too long: to see that a run exercised them. */
  readonly counts = { cached: 0, asked: 0, dropped: 0, epochs: 0, impatient: 0 };
  readonly #clock: Clock;
  readonly #process: SimProcess;
  readonly #namespace: Namespace;
  readonly #entries = new Map<string, CachedEntry>();
  readonly #locks = new Map<InodeNumber, Lock>();
  /** How long a notification is under way. */
  readonly #delayMs: () => number;
  readonly #requests = new Set<(error: Error) => void>();
  #epoch = 0;
  #isDead = false;

  constructor(options: {
    readonly machineClock: Clock;
    readonly process: SimProcess;
    readonly namespace: Namespace;
    readonly delayMs: () => number;
  }) {
    this.#delayMs = options.delayMs;
    this.#clock = options.machineClock;
    this.#process = options.process;
    this.#namespace = options.namespace;
    options.namespace.listen(this);
  }

  /** What a name is, as open(2) and stat(2) find it. */
  async lookup(parent: InodeNumber, name: string, signal: AbortSignal): Promise<Seen> {
    const cached = this.#valid(parent, name);
    if (cached !== undefined) {
      this.counts.cached += 1;
      return { attributes: cached.attributes, isCached: true };
    }
    return this.#locked(parent, async () => {
      const epoch = this.#epoch;
      this.counts.asked += 1;
      const attributes = await this.#request(async () => {
        const known = this.#namespace.knownName(parent, name);
        if (known !== undefined) return this.#enter(parent, name, { ...known, epoch });
        const asked = await this.#namespace.lookup(parent, name, { signal });
        return this.#enterKnown(parent, name, { attributes: asked, epoch });
      }, signal);
      return { attributes, isCached: false };
    });
  }

  /** Attributes of an inode that was found under a name: stat(2) when the entry outlives them, and fstat(2). */
  async attributes(at: { parent: InodeNumber; name: string; inode: InodeNumber }, signal: AbortSignal) {
    const cached = this.#valid(at.parent, at.name);
    const own = cached?.attributes?.inode === at.inode ? cached : undefined;
    if (own?.attributes !== undefined && own.attributesUntilMs > this.#clock.nowMs()) {
      this.counts.cached += 1;
      return own.attributes;
    }
    this.counts.asked += 1;
    return this.#request(async () => {
      const known = this.#namespace.knownAttributes(at.inode);
      return known?.attributes ?? (await this.#namespace.attributes(at.inode, { signal }));
    }, signal);
  }

  /** readdirplus: fills the cache as it goes. */
  async list(directory: InodeNumber, signal: AbortSignal): Promise<readonly DirectoryEntry[]> {
    const all: DirectoryEntry[] = [];
    for (let after: string | undefined = ''; after !== undefined;) {
      const from: string = after;
      after = await this.#locked(directory, async () => {
        const epoch = this.#epoch;
        this.counts.asked += 1;
        return this.#request(async () => {
          const page = await this.#namespace.list(
            directory,
            { after: from, entriesMax: PAGE_ENTRIES },
            { signal },
          );
          for (const { name, attributes } of page.entries) {
            this.#enterKnown(directory, name, { attributes, epoch });
          }
          all.push(...page.entries);
          return page.next;
        }, signal);
      });
    }
    return all;
  }

  /** Within the satellite's process. */
  async request<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#request(work, signal);
  }

  reportStale(inode: InodeNumber, source: VersionSource, signal: AbortSignal): Promise<void> {
    return this.#request(() => this.#namespace.reportStale(inode, source, { signal }), signal);
  }

  async drop(names: readonly DroppedName[]): Promise<void> {
    await this.#pause(this.#delayMs());
    for (const { directory, name, attributesOnly } of names) {
      if (attributesOnly) this.#dropAttributes(directory, name);
      else if (!(await this.#isFree(directory))) {
        this.counts.impatient += 1;
        return this.#incrementEpoch();
      } else if (this.#entries.delete(keyOf(directory, name))) this.counts.dropped += 1;
    }
  }

  async dropAll(): Promise<void> {
    await this.#pause(this.#delayMs());
    this.#incrementEpoch();
  }

  #incrementEpoch(): void {
    this.counts.epochs += 1;
    this.#epoch += 1;
  }

  async dropDirectories(directories: readonly InodeNumber[]): Promise<void> {
    for (const key of this.#entries.keys()) {
      const [directory = ''] = key.split('/');
      if (directories.includes(BigInt(directory) as InodeNumber)) this.#entries.delete(key);
    }
  }

  /** The process is dead: requests fail, and nothing that was cached is shown, for the mount is gone. */
  abort(): void {
    this.#isDead = true;
    for (const fail of [...this.#requests]) fail(new MountDeadError('the process is gone'));
  }

  #valid(parent: InodeNumber, name: string): CachedEntry | undefined {
    if (this.#isDead) throw new MountDeadError('the process is gone');
    const entry = this.#entries.get(keyOf(parent, name));
    if (entry === undefined || entry.epoch !== this.#epoch) return undefined;
    return entry.untilMs > this.#clock.nowMs() ? entry : undefined;
  }

  /** An answer with a time, in the turn in which it was given. */
  #enter(
    parent: InodeNumber,
    name: string,
    answer: {
      readonly attributes: InodeAttributes | undefined;
      readonly validForMs: number;
      readonly epoch: number;
    },
  ): InodeAttributes | undefined {
    const { attributes, validForMs, epoch } = answer;
    const untilMs = this.#clock.nowMs() + validForMs;
    if (validForMs <= 0) this.#entries.delete(keyOf(parent, name));
    else this.#entries.set(keyOf(parent, name), { attributes, epoch, untilMs, attributesUntilMs: untilMs });
    return attributes;
  }

  /** An answer for once, unless it is what is held under a lease by now. */
  #enterKnown(
    parent: InodeNumber,
    name: string,
    answer: { readonly attributes: InodeAttributes | undefined; readonly epoch: number },
  ): InodeAttributes | undefined {
    const { attributes, epoch } = answer;
    const known = this.#namespace.knownName(parent, name);
    const isSame =
      known?.attributes?.inode === attributes?.inode &&
      known?.attributes?.source?.version === attributes?.source?.version;
    const validForMs = known !== undefined && isSame ? known.validForMs : 0;
    return this.#enter(parent, name, { attributes, validForMs, epoch });
  }

  #dropAttributes(directory: InodeNumber, name: string): void {
    const entry = this.#entries.get(keyOf(directory, name));
    if (entry !== undefined) entry.attributesUntilMs = -Infinity;
  }

  async #request<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#isDead) throw new MountDeadError('the process is gone');
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#requests.delete(fail);
      };
      const fail = (error: Error): void => {
        end();
        reject(error);
      };
      this.#requests.add(fail);
      this.#process.run(() => {
        if (signal.aborted) return fail(signal.reason as Error);
        work().then(resolve, reject).finally(end);
      });
    });
  }

  async #locked<T>(directory: InodeNumber, run: () => Promise<T>): Promise<T> {
    const lock = this.#locks.get(directory) ?? { holders: 0, waiting: [] };
    this.#locks.set(directory, lock);
    lock.holders += 1;
    try {
      return await run();
    } finally {
      lock.holders -= 1;
      if (lock.holders === 0) {
        this.#locks.delete(directory);
        for (const go of lock.waiting) go();
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#process.clock.after(ms, resolve));
  }

  /** Waits for the lock of a directory. False: not within patience. */
  async #isFree(directory: InodeNumber): Promise<boolean> {
    const lock = this.#locks.get(directory);
    if (lock === undefined) return true;
    return new Promise((resolve) => {
      const cancel = this.#process.clock.after(NOTIFICATION_PATIENCE_MS, () => resolve(false));
      lock.waiting.push(() => {
        cancel();
        resolve(true);
      });
    });
  }
}

function keyOf(directory: InodeNumber, name: string): string {
  return `${directory}/${name}`;
}
