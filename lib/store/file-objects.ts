/**
 * What the file store tells of an object: entity tag, times, metadata.
 *
 * The entity tag is made of inode number, size and modification time, so it needs no database and survives a
 * crash: a replacement is a new inode with a time of its own. Metadata that a writer gave lies in a sidecar named
 * by key and entity tag, written before the object is put in place; without one it is what the file itself tells.
 */
import { type BigIntStats } from 'node:fs';
import { readFile, readlink, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { randomId } from '../base/prng.ts';
import { unlessAbsent } from './file-errors.ts';
import { sha256 } from './file-keys.ts';
import { type FilePaths, type Found, syncDirectory, writeDurably } from './file-paths.ts';
import { type ObjectHead, type ObjectMetadata, type ObjectSummary } from './object-store.ts';
import { formatPosixMetadata } from './posix-metadata.ts';

const SIDECAR_FORMAT = 1;
const NS_PER_MS = 1_000_000n;

export function entityTagOf(stats: BigIntStats): string {
  return `${stats.ino.toString(16)}-${stats.size.toString(16)}-${stats.mtimeNs.toString(16)}`;
}

export function summaryOf(key: string, stats: BigIntStats): ObjectSummary {
  return {
    key,
    sizeBytes: stats.isSymbolicLink() ? 0 : Number(stats.size),
    entityTag: entityTagOf(stats),
    modifiedMs: Number(stats.mtimeNs / NS_PER_MS),
  };
}

export class FileObjects {
  readonly #paths: FilePaths;

  constructor(paths: FilePaths) {
    this.#paths = paths;
  }

  async headOf(key: string, found: Found): Promise<ObjectHead> {
    const summary = summaryOf(key, found.stats);
    const metadata = (await this.readSidecar(key, summary.entityTag)) ?? (await metadataOf(found));
    return { ...summary, versionId: undefined, metadata };
  }

  async readSidecar(key: string, entityTag: string): Promise<ObjectMetadata | undefined> {
    const text = await unlessAbsent(readFile(join(...this.#sidecar(key, entityTag)), 'utf8'));
    if (text === undefined) return undefined;
    try {
      const sidecar = JSON.parse(text) as { format?: unknown; metadata?: Record<string, string> };
      return sidecar.format === SIDECAR_FORMAT ? sidecar.metadata : undefined;
    } catch {
      return undefined;
    }
  }

  async writeSidecar(key: string, entityTag: string, metadata: ObjectMetadata): Promise<void> {
    const [directory, name] = this.#sidecar(key, entityTag);
    await this.#paths.makeReserved('metadata', name.slice(0, 2));
    const temporary = join(directory, `.${randomId(8)}`);
    await writeDurably(temporary, Buffer.from(JSON.stringify({ format: SIDECAR_FORMAT, key, metadata })));
    await rename(temporary, join(directory, name));
    await syncDirectory(directory);
  }

  async removeSidecar(key: string, entityTag: string): Promise<void> {
    await unlessAbsent(unlink(join(...this.#sidecar(key, entityTag))));
  }

  #sidecar(key: string, entityTag: string): [directory: string, name: string] {
    const name = `${sha256(key)}-${entityTag}`;
    return [this.#paths.reserved('metadata', name.slice(0, 2)), name];
  }
}

async function metadataOf({ path, stats }: Found): Promise<ObjectMetadata> {
  const symlink = stats.isSymbolicLink();
  const symlinkTarget = symlink ? await unlessAbsent(readlink(path)) : undefined;
  return formatPosixMetadata({
    kind: symlink ? 'symlink' : 'file',
    mode: Number(stats.mode) & 0o7777,
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    modifiedNs: stats.mtimeNs,
    ...(symlinkTarget === undefined ? {} : { symlinkTarget }),
  });
}
