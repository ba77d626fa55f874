/**
 * Puts objects of a file store in place, and takes them away.
 *
 * A new object is written whole into `.perigee/temporary`, made durable, and only then renamed (or linked, if there
 * must be none yet) to its path; a reader or a crash finds the old object or the new one. Writers of one key of this
 * process take turns, which makes conditions exact; between processes only "if absent" is exact.
 */
import { constants } from 'node:fs';
import { copyFile, type FileHandle, link, lstat, open, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock } from '../base/clock.ts';
import { type Prng, randomId } from '../base/prng.ts';
import { errnoOf, unlessAbsent } from './file-errors.ts';
import { entityTagOf, type FileObjects } from './file-objects.ts';
import { type FilePaths, type Found, syncDirectory } from './file-paths.ts';
import { KeyLock } from './key-lock.ts';
import { type ObjectMetadata, StoreError, type WriteConditions, type Written } from './object-store.ts';

/** Rounds of losing the place of an object to concurrent changes of the directories around it. */
const PLACE_ATTEMPTS_MAX = 16;
/** Temporary files older than this belong to no living writer. */
const TEMPORARY_AGE_MAX_MS = 24 * 60 * 60 * 1000;

export interface NewObject {
  readonly key: string;
  readonly metadata: ObjectMetadata;
  readonly conditions: WriteConditions;
  /** Writes the contents into a new, empty file. */
  readonly fill: (file: FileHandle, path: string) => Promise<void>;
}

export class FileWriter {
  readonly #paths: FilePaths;
  readonly #objects: FileObjects;
  readonly #clock: Clock;
  readonly #prng: Prng;
  readonly #locks = new KeyLock();
  #temporaryDirectory: Promise<string> | undefined;

  constructor(parts: {
    readonly paths: FilePaths;
    readonly objects: FileObjects;
    readonly clock: Clock;
    readonly prng: Prng;
  }) {
    this.#paths = parts.paths;
    this.#objects = parts.objects;
    this.#clock = parts.clock;
    this.#prng = parts.prng;
  }

  async write(object: NewObject): Promise<Written> {
    const { key, metadata, conditions } = object;
    this.#checkConditions(key, conditions, await this.#paths.find(key));
    const temporary = await this.#newTemporary();
    try {
      const entityTag = await this.#fill(temporary, object);
      await this.#locks.run(key, async () => {
        const before = await this.#paths.find(key);
        this.#checkConditions(key, conditions, before);
        if (Object.keys(metadata).length > 0) await this.#objects.writeSidecar(key, entityTag, metadata);
        await this.#place(temporary, object);
        if (before) await this.#objects.removeSidecar(key, entityTagOf(before.stats));
      });
      return { entityTag, versionId: undefined };
    } finally {
      await unlessAbsent(unlink(temporary));
    }
  }

  async remove(key: string, conditions: WriteConditions): Promise<void> {
    await this.#locks.run(key, async () => {
      const found = await this.#paths.find(key);
      if (!found && conditions.ifMatch === undefined) return;
      this.#checkConditions(key, conditions, found);
      if (!found) return;
      await unlessAbsent(unlink(found.path));
      await syncDirectory(dirname(found.path));
      await this.#objects.removeSidecar(key, entityTagOf(found.stats));
      await this.#paths.prune(found.path);
    });
  }

  /** Copies a file's bytes, sharing them where the file system can. */
  async copyInto(from: string, to: string): Promise<void> {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }

  #checkConditions(key: string, conditions: WriteConditions, found: Found | undefined): void {
    const entityTag = found && entityTagOf(found.stats);
    if (conditions.ifAbsent && entityTag !== undefined) {
      throw new StoreError('precondition-failed', `${key}: there is an object already`);
    }
    if (conditions.ifMatch !== undefined && conditions.ifMatch !== entityTag) {
      throw new StoreError('precondition-failed', `${key}: is not the version ${conditions.ifMatch}`);
    }
  }

  async #fill(temporary: string, object: NewObject): Promise<string> {
    const file = await open(temporary, 'wx+', 0o644);
    try {
      await object.fill(file, temporary);
      // Sub-millisecond noise: an inode number that is used again at once does not repeat an entity tag.
      const seconds = (this.#clock.wallMs() + this.#prng.next()) / 1000;
      await file.utimes(seconds, seconds);
      await file.sync();
      return entityTagOf(await file.stat({ bigint: true }));
    } finally {
      await file.close();
    }
  }

  async #place(temporary: string, object: NewObject): Promise<void> {
    for (let attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
      const path = await this.#paths.prepare(object.key, (key, move) => this.#locks.run(key, move));
      try {
        if (object.conditions.ifAbsent) await link(temporary, path);
        else await rename(temporary, path);
        await syncDirectory(dirname(path));
        return;
      } catch (error) {
        const errno = errnoOf(error);
        if (errno === 'EEXIST' && (await unlessAbsent(lstat(path)))?.isDirectory() === false) {
          throw new StoreError('precondition-failed', `${object.key}: there is an object already`, {
            cause: error,
          });
        }
        // A directory was pruned or made under us: look again where the object belongs.
        if (!['ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY'].includes(errno ?? '')) throw error;
      }
    }
    throw new StoreError('unavailable', `${object.key}: others keep changing the directories around it`);
  }

  async #newTemporary(): Promise<string> {
    this.#temporaryDirectory ??= this.#prepareTemporaries();
    try {
      return join(await this.#temporaryDirectory, randomId(12));
    } catch (error) {
      this.#temporaryDirectory = undefined;
      throw error;
    }
  }

  /** Makes the directory, and removes what writers left behind that died long ago. */
  async #prepareTemporaries(): Promise<string> {
    const directory = await this.#paths.makeReserved('temporary');
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      const stats = await unlessAbsent(lstat(path));
      if (stats && this.#clock.wallMs() - stats.mtimeMs > TEMPORARY_AGE_MAX_MS)
        await unlessAbsent(unlink(path));
    }
    return directory;
  }
}
