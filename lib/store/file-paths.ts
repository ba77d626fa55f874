/**
 * Where the objects of a file store lie, and the directories around them.
 *
 * An object is found under its natural name, or under its aside name while a directory has the natural one.
 * Nothing outside the root is ever reached: symlinks are not followed, neither at the end of a path nor on the way.
 * Every change of a directory is made durable before it is relied on.
 */
import { constants, type BigIntStats } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rmdir,
  unlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { randomId } from '../base/prng.ts';
import { errnoOf, isAbsent, unlessAbsent } from './file-errors.ts';
import { asideName, keyPath, RESERVED_NAME, type SegmentName, sha256 } from './file-keys.ts';
import { StoreError } from './object-store.ts';

/** Rounds of "make the directory, lose it to a concurrent delete" before giving up. */
const ATTEMPTS_MAX = 16;
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface Found {
  readonly path: string;
  /** Of the file itself, or of the symlink. */
  readonly stats: BigIntStats;
}

export class FilePaths {
  readonly root: string;

  /** @param root an absolute path without symlinks */
  constructor(root: string) {
    this.root = root;
  }

  /** A path in the store's own directory. */
  reserved(...names: string[]): string {
    return join(this.root, RESERVED_NAME, ...names);
  }

  /** Where the object may be, in the order in which to look; the natural path twice, for one that moves meanwhile. */
  candidates(key: string): [natural: string, aside: string, again: string] {
    const { directories, leaf } = keyPath(key);
    const parent = join(this.root, ...directories.map(({ name }) => name.name));
    const natural = join(parent, leaf.name.name);
    return [natural, join(parent, asideName(leaf.segment).name), natural];
  }

  async find(key: string): Promise<Found | undefined> {
    for (const path of this.candidates(key)) {
      const stats = await unlessAbsent(lstat(path, { bigint: true }));
      if (stats && isObject(stats) && (await this.#isDirect(dirname(path)))) return { path, stats };
    }
    return undefined;
  }

  /** Opens the object's file for reading; the symlink itself cannot be opened and is given as found. */
  async open(key: string): Promise<(Found & { readonly file: FileHandle | undefined }) | undefined> {
    for (const path of this.candidates(key)) {
      let file: FileHandle | undefined;
      try {
        file = await open(path, OPEN_FLAGS);
        const stats = await file.stat({ bigint: true });
        if (stats.isFile() && (await this.#isReally(file, path))) {
          const opened = { path, stats, file };
          file = undefined;
          return opened;
        }
      } catch (error) {
        const errno = errnoOf(error);
        if (errno === 'ELOOP' || errno === 'EMLINK') {
          const found = await this.find(key);
          return found && { ...found, file: undefined };
        }
        // ENXIO: a socket or a pipe, which is no object.
        if (!isAbsent(error) && errno !== 'ENXIO') throw error;
      } finally {
        await file?.close();
      }
    }
    return undefined;
  }

  /**
   * Makes the directories of a key, moves objects that stand in their way aside, and returns the path where the
   * object belongs now.
   * @param moveAside runs a move of the object with that key while nobody else writes it
   */
  async prepare(
    key: string,
    moveAside: (key: string, move: () => Promise<void>) => Promise<void>,
  ): Promise<string> {
    const { directories, leaf } = keyPath(key);
    let parent = this.root;
    let walked = '';
    for (const { segment, name } of directories) {
      walked += segment;
      if (name.hashed) await this.rememberName(segment);
      await this.#makeDirectory(join(parent, name.name), {
        aside: () => moveAside(walked, () => this.#moveAside(parent, name.name, segment)),
      });
      parent = join(parent, name.name);
      walked += '/';
    }
    if (!(await this.#isDirect(parent))) {
      throw new StoreError('access-denied', `${key}: a directory on the way is a symlink`, {
        hint: 'the file store does not follow symlinks; export the target on its own',
      });
    }
    return this.#placeOf(parent, leaf);
  }

  /** Removes the directories of a key that have become empty. */
  async prune(path: string): Promise<void> {
    for (let at = dirname(path); at.length > this.root.length; at = dirname(at)) {
      try {
        await rmdir(at);
      } catch {
        return;
      }
    }
  }

  async makeReserved(...names: string[]): Promise<string> {
    const path = this.reserved(...names);
    const first = await mkdir(path, { recursive: true });
    if (first !== undefined) await syncDirectory(dirname(first));
    return path;
  }

  /** The segment that a hashed name stands for; undefined if the store never wrote it. */
  async recallName(hash: string): Promise<string | undefined> {
    const segment = await unlessAbsent(readFile(this.reserved('names', hash), 'utf8'));
    return segment !== undefined && sha256(segment) === hash ? segment : undefined;
  }

  async rememberName(segment: string): Promise<void> {
    const hash = sha256(segment);
    if ((await this.recallName(hash)) !== undefined) return;
    const directory = await this.makeReserved('names');
    const temporary = join(directory, `.${randomId(8)}`);
    await writeDurably(temporary, Buffer.from(segment));
    await rename(temporary, join(directory, hash));
    await syncDirectory(directory);
  }

  async #placeOf(parent: string, leaf: { segment: string; name: SegmentName }): Promise<string> {
    const natural = join(parent, leaf.name.name);
    const aside = asideName(leaf.segment);
    const asidePath = join(parent, aside.name);
    const taken = (await unlessAbsent(lstat(natural)))?.isDirectory() ?? false;
    const toAside = taken || (await unlessAbsent(lstat(asidePath))) !== undefined;
    if (leaf.name.hashed || (toAside && aside.hashed)) await this.rememberName(leaf.segment);
    return toAside ? asidePath : natural;
  }

  async #makeDirectory(path: string, steps: { aside: () => Promise<void> }): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      try {
        await mkdir(path);
        await syncDirectory(dirname(path));
        return;
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
        const stats = await unlessAbsent(lstat(path));
        if (stats?.isDirectory()) return;
        if (stats?.isSymbolicLink()) return; // refused by the caller's check of the whole way
        if (stats) await steps.aside();
      }
    }
    throw new StoreError('unavailable', `${path}: others keep changing it`);
  }

  async #moveAside(parent: string, name: string, segment: string): Promise<void> {
    const path = join(parent, name);
    if (!(await unlessAbsent(lstat(path)))?.isFile()) return;
    const aside = asideName(segment);
    if (aside.hashed) await this.rememberName(segment);
    await rename(path, join(parent, aside.name));
    await syncDirectory(parent);
  }

  async #isDirect(directory: string): Promise<boolean> {
    return directory === this.root || (await unlessAbsent(realpath(directory))) === directory;
  }

  /** Whether what was opened is inside the root, whatever happened to the directories while it was opened. */
  async #isReally(file: FileHandle, path: string): Promise<boolean> {
    if (process.platform !== 'linux') return this.#isDirect(dirname(path));
    const real = await readlink(`/proc/self/fd/${file.fd}`);
    return real === path || real === `${path} (deleted)`;
  }
}

/** Files and symlinks are objects; sockets, pipes and devices are not. */
export function isObject(stats: { isFile(): boolean; isSymbolicLink(): boolean }): boolean {
  return stats.isFile() || stats.isSymbolicLink();
}

export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } catch (error) {
    await unlink(path).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await unlessAbsent(open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  try {
    await directory?.sync();
  } finally {
    await directory?.close();
  }
}
