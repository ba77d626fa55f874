/**
 * The programs that a simulated world runs: readers on satellites, writers that talk to the origin, and one who changes
 * the bucket behind our back. Each does one thing after the other, draws it from its own generator, and records it.
 */
import { type InodeNumber, ROOT_INODE } from '../../lib/base/brand.ts';
import { invariant } from '../../lib/base/errors.ts';
import type { Prng } from '../../lib/base/prng.ts';
import { NamespaceError, type InodeAttributes } from '../../lib/namespace/namespace.ts';
import { RpcError } from '../../lib/rpc/rpc-errors.ts';
import { type ObjectStore, StoreError } from '../../lib/store/object-store.ts';
import { UNTOLD } from '../history/linearizability.ts';
import {
  type ChangeCall,
  contentSight,
  fileValue,
  mayHaveMoved,
  mayHaveRemoved,
  mayHaveWritten,
  type MayHaveDone,
  type Recorder,
  sightOf,
} from './recorder.ts';
import { MountDeadError, type SimKernel } from './sim-kernel.ts';
import type { SimBucket } from './sim-store.ts';
import type { SimTime } from './sim-time.ts';

/** All names that anything ever has. Those of `o` and `u` are changed in the bucket, behind our back. */
export const DIRECTORIES = ['d0', 'd1', 'd2', 'o', 'u0', 'u1', 'u2', 'u3'];
const FILES = ['f0', 'f1', 'f2'];
const OUTSIDERS = ['x0', 'x1'];
/** Directories that nobody lists, so that names in them are found, or found to be absent, one by one. */
const UNLISTED = DIRECTORIES.filter((name) => name.startsWith('u'));
const ROOT_FILES = ['r0'];
const LISTED = ['', ...DIRECTORIES.filter((name) => !UNLISTED.includes(name))];
const RETRIES_OF_STALE = 4;

export interface World {
  readonly time: SimTime;
  readonly recorder: Recorder;
  readonly bucket: SimBucket;
  /** The next length that no file has had. */
  nextBytes(): number;
  readonly changes: ChangeClient;
  /** Whether writers rename directories. */
  readonly movesDirectories: boolean;
}

/** What the command line would call. */
export interface ChangeClient {
  put(call: ChangeCall, path: string, bytes: number): Promise<void>;
  remove(call: ChangeCall, path: string, recursive: boolean): Promise<void>;
  rename(call: ChangeCall, from: string, to: string): Promise<void>;
  makeDirectory(call: ChangeCall, path: string): Promise<void>;
  refresh(path: string): Promise<void>;
}

export class Program {
  readonly name: string;
  isBusy = false;
  /** What the last failed operations said: to see that failures are those that the faults cause. */
  readonly failures = new Map<string, number>();
  protected readonly world: World;
  protected readonly prng: Prng;

  constructor(options: { readonly name: string; readonly world: World; readonly prng: Prng }) {
    this.name = options.name;
    this.world = options.world;
    this.prng = options.prng;
  }

  /** One thing after the other until `untilMs`. */
  async run(untilMs: number, thinkMs: number): Promise<void> {
    const { time } = this.world;
    while (time.nowMs < untilMs) {
      await this.pause(this.prng.next() * 2 * thinkMs);
      this.isBusy = true;
      try {
        await this.act();
      } finally {
        this.isBusy = false;
      }
    }
  }

  protected act(): Promise<void> {
    return Promise.resolve();
  }

  protected pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.world.time.after(ms, resolve));
  }

  protected pick<T>(from: readonly T[]): T {
    return from[this.prng.below(from.length)] as T;
  }

  protected path(): string {
    if (this.prng.below(8) === 0) return this.pick(ROOT_FILES);
    return `${this.pick(DIRECTORIES.slice(0, 3))}/${this.pick(FILES)}`;
  }

  protected failed(error: unknown): void {
    const code =
      error instanceof NamespaceError || error instanceof RpcError || error instanceof StoreError
        ? error.code
        : error instanceof MountDeadError
          ? 'mount-dead'
          : error instanceof Error && error.name === 'AbortError'
            ? 'interrupted'
            : undefined;
    if (code === undefined) throw error;
    this.failures.set(code, (this.failures.get(code) ?? 0) + 1);
  }
}

/** Of a satellite: kernel and store as they are now. */
export interface Mount {
  readonly kernel: SimKernel;
  readonly store: ObjectStore;
}

export class Reader extends Program {
  readonly #mount: () => Mount;

  constructor(options: ConstructorParameters<typeof Program>[0] & { readonly mount: () => Mount }) {
    super(options);
    this.#mount = options.mount;
  }

  protected override async act(): Promise<void> {
    const { signal } = new AbortController();
    try {
      const kind = this.prng.below(10);
      if (kind === 0) await this.#list(this.pick(LISTED), signal);
      else if (kind < 3) await this.#stat(this.#path(), signal);
      else if (kind < 6) await this.#open(this.#path(), signal);
      else await this.#walk(this.#path(), signal);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Every name once: what is there in the end. */
  async readAll(): Promise<void> {
    const { signal } = new AbortController();
    for (const directory of DIRECTORIES) {
      for (const file of directory.startsWith('d') ? FILES : OUTSIDERS) {
        await this.#walk(`${directory}/${file}`, signal);
      }
    }
    for (const directory of LISTED) await this.#list(directory, signal);
  }

  #path(): string {
    const kind = this.prng.below(10);
    if (kind > 2) return this.path();
    return `${kind === 0 ? this.pick(UNLISTED) : 'o'}/${this.pick(OUTSIDERS)}`;
  }

  /** Each name on the way is looked up, and each look is an operation. */
  async #walk(
    path: string,
    signal: AbortSignal,
  ): Promise<{ at: At; attributes: InodeAttributes } | undefined> {
    let parent: InodeNumber = ROOT_INODE;
    const names = path === '' ? [] : path.split('/');
    for (const [depth, name] of names.entries()) {
      const shown = names.slice(0, depth + 1).join('/');
      const begun = this.world.recorder.history.begin(this.name, `look up ${shown}`);
      const { attributes } = await this.#mount().kernel.lookup(parent, name, signal);
      begun.ok(...sightOf(parent, name, attributes));
      if (attributes === undefined) return undefined;
      if (depth === names.length - 1) return { at: { parent, name, inode: attributes.inode }, attributes };
      if (attributes.kind !== 'directory') return undefined;
      parent = attributes.inode;
    }
    return undefined;
  }

  async #stat(path: string, signal: AbortSignal): Promise<void> {
    const found = await this.#walk(path, signal);
    if (found?.attributes.kind !== 'file') return;
    const begun = this.world.recorder.history.begin(this.name, `stat ${path}`);
    const attributes = await this.#mount().kernel.attributes(found.at, signal);
    begun.ok(contentSight(attributes));
  }

  /** Opens a file and reads it whole. A file that was replaced behind our back is reported and opened again. */
  async #open(path: string, signal: AbortSignal): Promise<void> {
    for (let tries = 0; tries < RETRIES_OF_STALE; tries++) {
      const found = await this.#walk(path, signal);
      const source = found?.attributes.source;
      if (found === undefined || source === undefined) return;
      const { kernel, store } = this.#mount();
      try {
        const { bodyBytes } = await kernel.request(
          () => store.get({ key: source.objectKey, ifMatch: source.entityTag }),
          signal,
        );
        invariant(bodyBytes === source.sizeBytes, 'a version has the bytes that it was committed with');
        return;
      } catch (error) {
        const isOther =
          error instanceof StoreError && ['precondition-failed', 'not-found'].includes(error.code);
        if (!isOther) throw error;
        await this.#mount().kernel.reportStale(found.attributes.inode, source, signal);
      }
    }
  }

  async #list(path: string, signal: AbortSignal): Promise<void> {
    const found = path === '' ? undefined : await this.#walk(path, signal);
    if (path !== '' && found?.attributes.kind !== 'directory') return;
    const directory = found?.attributes.inode ?? ROOT_INODE;
    const begun = this.world.recorder.history.begin(this.name, `list ${path === '' ? '/' : path}`);
    const entries = await this.#mount().kernel.list(directory, signal);
    const names = path === '' ? [...DIRECTORIES, ...ROOT_FILES] : path === 'o' ? OUTSIDERS : FILES;
    const byName = new Map(entries.map(({ name, attributes }) => [name, attributes]));
    const strangers = [...byName.keys()].filter((name) => !names.includes(name));
    invariant(strangers.length === 0, `nobody made ${strangers.join(', ')} in ${path}`);
    begun.ok(...names.flatMap((name) => sightOf(directory, name, byName.get(name))));
  }
}

interface At {
  readonly parent: InodeNumber;
  readonly name: string;
  readonly inode: InodeNumber;
}

/** Answers of the origin after which it is certain that nothing was changed, nor will be. */
const REFUSALS = [
  ...[
    'not-found',
    'not-directory',
    'is-directory',
    'denied',
    'invalid',
    'unsupported',
    'exists',
    'not-empty',
  ],
  ...['busy', 'fenced', 'upload-gone'],
];

export class Writer extends Program {
  protected override async act(): Promise<void> {
    const kind = this.prng.below(20);
    if (kind < 10) return this.#put(this.path());
    if (kind < 13) return this.#remove(this.path(), false);
    if (kind < 16) return this.#move(this.path(), this.path());
    if (kind < 18 && this.world.movesDirectories) return this.#move(this.#directory(), this.#directory());
    if (kind < 19) return this.#makeDirectory(this.#directory());
    return this.#remove(this.#directory(), true);
  }

  #directory(): string {
    return this.pick(DIRECTORIES.slice(0, 3));
  }

  async #put(path: string): Promise<void> {
    const bytes = this.world.nextBytes();
    await this.#call(`put ${path}`, mayHaveWritten(basename(path), fileValue(bytes)), (call) =>
      this.world.changes.put(call, path, bytes),
    );
  }

  #remove(path: string, recursive: boolean): Promise<void> {
    return this.#call(`rm ${recursive ? '-r ' : ''}${path}`, mayHaveRemoved, (call) =>
      this.world.changes.remove(call, path, recursive),
    );
  }

  #move(from: string, to: string): Promise<void> {
    return this.#call(`mv ${from} ${to}`, mayHaveMoved, (call) => this.world.changes.rename(call, from, to));
  }

  #makeDirectory(path: string): Promise<void> {
    // Which inode it got is learnt when somebody sees it.
    return this.#call(`mkdir ${path}`, mayHaveWritten(basename(path), UNTOLD), (call) =>
      this.world.changes.makeDirectory(call, path),
    );
  }

  async #call(
    text: string,
    mayHaveDone: MayHaveDone,
    run: (call: ChangeCall) => Promise<void>,
  ): Promise<void> {
    const { recorder } = this.world;
    const call = recorder.begin(this.name, text);
    try {
      await run(call);
      recorder.ok(call);
    } catch (error) {
      this.failed(error);
      if (!(error instanceof RpcError) || !REFUSALS.includes(error.code)) recorder.unknown(call, mayHaveDone);
    }
  }
}

/** Puts and deletes objects in the bucket, and has the origin look, or lets it find out. */
export class Outsider extends Program {
  readonly #directories: ReadonlyMap<string, number>;

  /** @param options.directories inodes, by name */
  constructor(
    options: ConstructorParameters<typeof Program>[0] & { readonly directories: ReadonlyMap<string, number> },
  ) {
    super(options);
    this.#directories = options.directories;
  }

  protected override async act(): Promise<void> {
    const { recorder, bucket, time } = this.world;
    const directory = this.prng.below(3) === 0 ? this.pick(UNLISTED) : 'o';
    const path = `${directory}/${this.pick(OUTSIDERS)}`;
    const bytes = this.prng.below(3) === 0 ? undefined : this.world.nextBytes();
    const call = recorder.begin(this.name, `bucket: ${bytes === undefined ? 'rm' : 'put'} ${path}`);
    const name = `${this.#directories.get(directory)}/${basename(path)}`;
    const effect = {
      kind: 'write',
      name,
      value: bytes === undefined ? undefined : fileValue(bytes),
    } as const;
    bucket.nowMs = 1_700_000_000_000 + time.nowMs;
    if (bytes === undefined) bucket.remove(path);
    else bucket.fill({ [path]: 'x'.repeat(bytes) });
    await this.pause(this.prng.next() * 500);
    // Whoever asks for the name finds out, and from then on everybody knows.
    if (directory !== 'o') return call.begun.unknown(effect);
    for (;;) {
      try {
        await this.world.changes.refresh('o');
        return call.begun.ok(effect);
      } catch (error) {
        this.failed(error);
        await this.pause(this.prng.next() * 1_000);
      }
    }
  }
}

function basename(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
