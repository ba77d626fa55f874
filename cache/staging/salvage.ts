/**
 * Saves what writers left in a cache directory that does not start: copies of every staged file and of the journal, and
 * a list that says in words what each file is. Nothing in the directory is changed, nothing needs to verify.
 *
 * The journal is read from its copy, because reading one already changes it.
 */
import { describeError } from '../../lib/base/errors.ts';
import { CacheError } from '../block-cache.ts';
import { type Disk, systemDisk } from '../disk.ts';
import { type CachePaths, cachePaths } from '../format.ts';
import { lockDirectory } from '../lock.ts';
import { type JournalRow, readableRows } from './journal.ts';

export interface SalvageReport {
  readonly files: number;
  readonly bytes: number;
  /** Files that the journal lists and that are not there, or are shorter than it says. */
  readonly losses: number;
  /** What of the journal cannot be read. */
  readonly problems: readonly string[];
  /** The file that says what each copy is. */
  readonly list: string;
}

/** @throws CacheError `foreign` (no cache, or a target that is not empty), `locked`, `disk` */
export async function salvageStaging(
  options: { readonly cacheDirectory: string; readonly to: string },
  disk: Disk = systemDisk,
): Promise<SalvageReport> {
  const { cacheDirectory, to } = options;
  const paths = cachePaths(cacheDirectory);
  try {
    if (disk.readText(paths.format) === undefined)
      throw new CacheError('foreign', `${cacheDirectory} is no cache directory`);
    const lock = lockDirectory(paths, disk);
    try {
      return await salvage(paths, { to, disk });
    } finally {
      lock.release();
    }
  } catch (error) {
    if (error instanceof CacheError) throw error;
    throw new CacheError('disk', `cannot salvage ${cacheDirectory}`, { cause: error });
  }
}

async function salvage(
  paths: CachePaths,
  { to, disk }: { readonly to: string; readonly disk: Disk },
): Promise<SalvageReport> {
  if ((disk.list(to) ?? []).length > 0)
    throw new CacheError('foreign', `${to} is not empty`, { hint: 'name a directory that is empty or new' });
  disk.makeDirectory(to);
  const { rows, problems } = await readJournal(paths, { to, disk });
  const lines: string[] = [];
  const report = { files: 0, bytes: 0, losses: 0 };
  for (const { name, isFile } of disk.list(paths.staging) ?? []) {
    if (!isFile) continue;
    await disk.copyFile(`${paths.staging}/${name}`, `${to}/${name}`);
    const sizeBytes = sizeOf(disk, `${to}/${name}`);
    const row = rows.get(name);
    rows.delete(name);
    lines.push(lineOf(name, { row, sizeBytes }));
    report.files++;
    report.bytes += sizeBytes;
    if (row !== undefined && sizeBytes < row.sizeBytes) report.losses++;
  }
  for (const [name, row] of rows) {
    lines.push(lineOf(name, { row, sizeBytes: undefined }));
    report.losses++;
  }
  const list = `${to}/list.txt`;
  disk.writeText(list, [...lines, ...problems.map((problem) => `# ${problem}`), ''].join('\n'));
  return { ...report, problems, list };
}

async function readJournal(
  paths: CachePaths,
  { to, disk }: { readonly to: string; readonly disk: Disk },
): Promise<{ rows: Map<string, JournalRow>; problems: string[] }> {
  const copy = `${to}/journal.db`;
  try {
    await disk.copyFile(paths.journal, copy);
    const log = `${paths.journal}-wal`;
    const hasLog = disk.list(paths.directory)?.some(({ name }) => log.endsWith(`/${name}`));
    if (hasLog) await disk.copyFile(log, `${copy}-wal`);
    const { rows, problems } = readableRows(copy);
    return { rows: new Map(rows.map((row) => [row.name, row])), problems };
  } catch (error) {
    return { rows: new Map(), problems: [`the journal cannot be read: ${describeError(error)}`] };
  }
}

function sizeOf(disk: Disk, path: string): number {
  const fd = disk.openToRead(path);
  try {
    return disk.sizeBytes(fd);
  } finally {
    disk.close(fd);
  }
}

/** The copy, what was promised of it, how much of it is there, and what it was in the export. */
function lineOf(
  name: string,
  { row, sizeBytes }: { readonly row: JournalRow | undefined; readonly sizeBytes: number | undefined },
): string {
  if (row === undefined) return `${name}\tnot in the journal\t${sizeBytes} bytes`;
  const { entry } = row;
  const found =
    sizeBytes === undefined ? 'missing' : `${sizeBytes} bytes of ${Math.max(row.sizeBytes, sizeBytes)}`;
  return [name, entry.state, found, entry.grant.exportName, JSON.stringify(entry.path)].join('\t');
}
