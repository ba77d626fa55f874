/**
 * One satellite per cache directory.
 *
 * The lock is SQLite's exclusive lock on an otherwise empty database, which the kernel drops when the process
 * is gone in whatever way: nothing is left to clean up after SIGKILL, and no process id can be mistaken for
 * another. It also excludes a second opening within one process. The file `owner` only serves the message.
 */
import Database from 'better-sqlite3';
import { CacheError } from './block-cache.ts';
import type { Disk } from './disk.ts';
import type { CachePaths } from './format.ts';

export interface DirectoryLock {
  release(): void;
}

/** @throws CacheError locked, disk */
export function lockDirectory(paths: CachePaths, disk: Disk): DirectoryLock {
  let database: Database.Database | undefined;
  try {
    database = new Database(paths.lock, { timeout: 0 });
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (!isBusy(error)) {
      throw new CacheError('disk', `cannot lock ${paths.directory}`, {
        cause: error,
        hint: 'the file system must support POSIX locks; local ext4 and xfs do',
      });
    }
    const owner = disk.readText(paths.owner)?.trim();
    throw new CacheError(
      'locked',
      `${paths.directory} belongs to another running satellite${owner ? ` (pid ${owner})` : ''}`,
      { cause: error, hint: 'unmount the other one first, or give this one a cache directory of its own' },
    );
  }
  const held = database;
  disk.writeText(paths.owner, `${process.pid}\n`);
  return {
    release() {
      held.exec('ROLLBACK');
      held.close();
    },
  };
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && /^SQLITE_(BUSY|LOCKED)/.test((error as { code?: string }).code ?? '');
}
