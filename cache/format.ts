/**
 * What a cache directory looks like, and whether this one is ours.
 *
 * Nothing is ever made or deleted in a directory that is neither empty nor marked by the file `format`. The
 * mark has a version; one that this release does not know is refused in words.
 *
 * Blobs are spread over folders by the time of their making, not by their names: one folder takes files until it
 * has enough, then the next. Files made one after another then share blocks of metadata, which makes making them
 * about a third cheaper than all over 256 folders (ext4, measured).
 *
 * Layout: `format` (the mark), `owner` (who holds it, for people), `lock.db`, `catalog.db`, `blobs/<2 hex>/<version>`,
 * `blobs/trash/` (files without a version any more, on their way out), `journal.db` and `staging/<write>` (working
 * copies and what is owed of them: nothing else in the directory is lost with it).
 */
import { join } from 'node:path';
import type { VersionId } from '../lib/base/brand.ts';
import { CacheError } from './block-cache.ts';
import type { Disk } from './disk.ts';

const FORMAT_VERSION = 1;
const FORMAT_NAME = 'perigee-cache';
/** A fresh file system has this; it does not make a directory foreign. */
const EMPTY_ENOUGH = new Set(['lost+found', 'format.draft']);

export interface CachePaths {
  readonly directory: string;
  readonly format: string;
  readonly owner: string;
  readonly lock: string;
  readonly catalog: string;
  readonly blobs: string;
  readonly trash: string;
  readonly probe: string;
  readonly journal: string;
  readonly staging: string;
}

export function cachePaths(directory: string): CachePaths {
  const blobs = join(directory, 'blobs');
  return {
    directory,
    format: join(directory, 'format'),
    owner: join(directory, 'owner'),
    lock: join(directory, 'lock.db'),
    catalog: join(directory, 'catalog.db'),
    blobs,
    trash: join(blobs, 'trash'),
    probe: join(directory, 'probe'),
    journal: join(directory, 'journal.db'),
    staging: join(directory, 'staging'),
  };
}

/** Folders over which blobs are spread, and files in one before the next is used. */
export const SHARDS = 256;
export const SHARD_FILES = 4096;

export function shardPath(paths: CachePaths, shard: number): string {
  return `${paths.blobs}/${shard.toString(16).padStart(2, '0')}`;
}

export function blobPath(
  paths: CachePaths,
  blob: { readonly shard: number; readonly version: VersionId },
): string {
  return `${shardPath(paths, blob.shard)}/${blob.version}`;
}

/** Makes the directory ours if it is new or empty. @throws CacheError foreign, format, disk */
export function prepareDirectory(paths: CachePaths, disk: Disk): void {
  try {
    disk.makeDirectory(paths.directory);
    const mark = disk.readText(paths.format);
    if (mark === undefined) {
      refuseForeign(paths, disk);
      disk.writeText(paths.format, JSON.stringify({ name: FORMAT_NAME, version: FORMAT_VERSION }) + '\n');
    } else {
      refuseUnknown(paths, mark);
    }
    disk.makeDirectory(paths.trash);
    disk.makeDirectory(paths.staging);
  } catch (error) {
    if (error instanceof CacheError) throw error;
    throw new CacheError('disk', `cannot use ${paths.directory} as a cache`, {
      cause: error,
      hint: 'check that the path is a directory that this user may write, on a disk with free space',
    });
  }
}

function refuseForeign(paths: CachePaths, disk: Disk): void {
  const strange = disk.list(paths.directory)?.find((entry) => !EMPTY_ENOUGH.has(entry.name));
  if (strange === undefined) return;
  throw new CacheError(
    'foreign',
    `${paths.directory} is not empty and not a cache: it contains ${strange.name}`,
    {
      hint: 'name an empty directory, or one that an earlier mount made; nothing has been touched',
    },
  );
}

function refuseUnknown(paths: CachePaths, mark: string): void {
  let found: { readonly name?: unknown; readonly version?: unknown } | null = {};
  try {
    found = JSON.parse(mark) as typeof found;
  } catch {
    // Falls through: no name.
  }
  if (found?.name !== FORMAT_NAME) {
    throw new CacheError('foreign', `${paths.format} is not the mark of a cache`, {
      hint: `nothing has been touched: if ${paths.directory} is an old cache it may be deleted, else name another directory`,
    });
  }
  if (found.version === FORMAT_VERSION) return;
  throw new CacheError(
    'format',
    `${paths.directory} has cache format ${String(found.version)}; this release knows ${FORMAT_VERSION}`,
    {
      hint: `use the release that made it, or name another directory; it may be deleted unless ${paths.staging} has files`,
    },
  );
}
