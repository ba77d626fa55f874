/**
 * What an earlier life left in staging: brings journal and files together, or refuses.
 *
 * Every file that is owed must be there, at least as long as the journal says. If one is not, nothing is touched and
 * the start is refused: somebody was told that those bytes are safe. Otherwise files of which nothing was acknowledged
 * are removed, for each file that is left has a row that owes it.
 */
import { CacheError } from '../block-cache.ts';
import type { Disk } from '../disk.ts';
import type { CachePaths } from '../format.ts';
import { type Journal, type JournalRow, SALVAGE_HINT } from './journal.ts';
import { isOwed } from './staged-file.ts';

export interface Leftovers {
  /** Their files are there; the longest owed first. */
  readonly owed: readonly JournalRow[];
  /** Rows that owe nothing, and have no file any more. */
  readonly ended: readonly JournalRow[];
  readonly removedFiles: number;
}

/** @throws CacheError `journal` */
export function leftoversOf(options: {
  readonly paths: CachePaths;
  readonly disk: Disk;
  readonly journal: Journal;
}): Leftovers {
  const { paths, disk, journal } = options;
  const files = new Set<string>();
  for (const { name, isFile } of disk.list(paths.staging) ?? []) if (isFile) files.add(name);
  const rows = journal.rows();
  const owed = rows.filter(({ entry }) => isOwed(entry.state));
  const losses = owed.flatMap((row) => lossOf(row, { ...options, isThere: files.has(row.name) }) ?? []);
  if (losses.length > 0) throw lost(losses, paths);
  for (const { name } of owed) files.delete(name);
  for (const name of files) disk.unlink(`${paths.staging}/${name}`);
  return {
    owed: owed.toSorted((a, b) => a.entry.sinceMs - b.entry.sinceMs),
    ended: rows.filter(({ entry }) => !isOwed(entry.state)),
    removedFiles: files.size,
  };
}

/** In words, if less is there than was acknowledged. */
function lossOf(
  { name, sizeBytes, entry }: JournalRow,
  { paths, disk, isThere }: { readonly paths: CachePaths; readonly disk: Disk; readonly isThere: boolean },
): string | undefined {
  const path = `${paths.staging}/${name}`;
  if (!isThere) return `${entry.path}: ${path} is gone`;
  const fd = disk.openToRead(path);
  try {
    const found = disk.sizeBytes(fd);
    return found < sizeBytes
      ? `${entry.path}: ${path} has ${found} of at least ${sizeBytes} bytes`
      : undefined;
  } finally {
    disk.close(fd);
  }
}

function lost(losses: readonly string[], paths: CachePaths): CacheError {
  const others = losses.length > 1 ? ` (and ${losses.length - 1} more)` : '';
  return new CacheError(
    'journal',
    `files that writers were told are safe in ${paths.directory} are not all there: ${losses[0]}${others}`,
    { hint: SALVAGE_HINT },
  );
}
