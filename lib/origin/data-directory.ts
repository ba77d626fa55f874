/**
 * The directory that holds an origin's state: one SQLite index and what SQLite puts beside it.
 *
 * Guarantees: an empty or missing directory is made an origin's; one that holds anything else is refused and left
 * as it is. The lock is SQLite's own on the index, so it cannot outlive its process.
 */
// The operator's data directory is one of the doors to the disk.
// eslint-disable-next-line no-restricted-imports
import fs from 'node:fs/promises';
import path from 'node:path';
import { OriginError } from './origin.ts';

const INDEX_NAME = 'index.sqlite';
/** mkfs leaves the one at the top of each ext4 file system, `perigee origin init` makes the other. */
const BESIDE_INDEX = ['lost+found', 'tls'];

/**
 * @returns the path of the index, which may not exist yet
 * @throws OriginError `foreign`, `index`
 */
export async function prepareDataDirectory(directory: string): Promise<string> {
  const index = path.join(directory, INDEX_NAME);
  try {
    await fs.mkdir(directory, { recursive: true, mode: 0o700 });
    const names = await fs.readdir(directory);
    if (names.length === 0 || names.includes(INDEX_NAME)) return index;
    if (names.every((name) => BESIDE_INDEX.includes(name))) return index;
  } catch (error) {
    throw new OriginError('index', `cannot use ${directory} as data directory`, {
      cause: error,
      hint: 'check that the path is a directory that this user may write',
    });
  }
  throw new OriginError('foreign', `${directory} is not empty and holds no index of an origin`, {
    hint: 'choose an empty directory, or the data directory of an earlier start',
  });
}
