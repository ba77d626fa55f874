/**
 * The journal of staging: one row for each working copy, in an SQLite database with a write-ahead log of its own.
 *
 * A row that was put survives the process, and once `sync` has answered the host: SQLite only appends to its log, and
 * the log is brought to the device here, off the calling thread, one time for all who ask at the same time. Once that
 * has failed nothing that the device says of the log is believed, so every later `sync` fails.
 *
 * Every row carries a checksum. A journal that cannot be read whole is refused, and left as it is.
 */
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import { z } from 'zod';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { describeError } from '../../lib/base/errors.ts';
import { CacheError } from '../block-cache.ts';
import { type Disk, diskFault } from '../disk.ts';
import type { CachePaths } from '../format.ts';
import { SharedRun } from './shared-run.ts';
import type { JournalEntry } from './staging.ts';

const SCHEMA_VERSION = 1;
/** "PSTG": tells the file from any other database. */
const APPLICATION_ID = 0x50535447;
const SCHEMA = `
  CREATE TABLE staged (name TEXT PRIMARY KEY, entry TEXT NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`;

/** Pages of the log before SQLite brings them to the database, which it does on the calling thread. */
const CHECKPOINT_PAGES = 4_000;

/** What is known of a staged file. */
export interface JournalRow {
  readonly name: string;
  /** The file is at least as long, or bytes were lost. */
  readonly sizeBytes: number;
  readonly entry: JournalEntry;
}

interface StoredRow {
  readonly name: string;
  readonly entry: string;
  readonly crc: number;
}

const integer = z
  .string()
  .regex(/^-?\d+$/)
  .transform(BigInt);
const size = z.number().int().nonnegative();

const rowSchema = z.object({
  sizeBytes: size,
  grant: z.object({
    write: z.string(),
    token: integer,
    exportName: z.string(),
    inode: integer.transform((number) => number as InodeNumber),
  }),
  path: z.string(),
  attributes: z.object({
    mode: z.number().int(),
    uid: z.number().int(),
    gid: z.number().int(),
    extended: z.record(
      z.string(),
      z.string().transform((text) => new Uint8Array(Buffer.from(text, 'base64'))),
    ),
  }),
  isCommitted: z.boolean(),
  state: z.enum(['begun', 'synced', 'closed', 'committed']),
  publication: size,
  committed: z.object({ sizeBytes: size, modifiedNs: integer, changedNs: integer }).nullable(),
  sinceMs: z.number(),
});

export class Journal {
  readonly #database: Database.Database;
  readonly #put: Database.Statement<[StoredRow]>;
  readonly #remove: Database.Statement<[string]>;
  readonly #sync: SharedRun;

  /** @throws CacheError `journal`, `disk` */
  constructor(paths: CachePaths, disk: Disk) {
    this.#database = openJournal(paths.journal);
    this.#put = this.#database.prepare(
      `INSERT INTO staged (name, entry, crc) VALUES (@name, @entry, @crc)
       ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, crc = excluded.crc`,
    );
    this.#remove = this.#database.prepare('DELETE FROM staged WHERE name = ?');
    let isNamed = false;
    let failure: { readonly error: unknown } | undefined;
    this.#sync = new SharedRun(async () => {
      if (failure !== undefined) throw failure.error;
      try {
        if (!isNamed) await disk.syncDirectory(paths.directory);
        isNamed = true;
        await disk.datasync(`${paths.journal}-wal`);
      } catch (error) {
        if (diskFault(error) !== 'exhausted') failure = { error };
        throw error;
      }
    });
  }

  /** @throws CacheError `journal` */
  rows(): JournalRow[] {
    return this.#database.prepare<[], StoredRow>('SELECT name, entry, crc FROM staged').all().map(rowOf);
  }

  put(row: JournalRow): void {
    const entry = textOf(row);
    this.#put.run({ name: row.name, entry, crc: checksumOf(row.name, entry) });
  }

  remove(name: string): void {
    this.#remove.run(name);
  }

  /** Whatever was put or removed before is on the device after. */
  sync(): Promise<void> {
    return this.#sync.run();
  }

  close(): void {
    this.#database.close();
  }
}

/** Whatever can be read of a journal, and in words what cannot. */
export function readableRows(path: string): { readonly rows: JournalRow[]; readonly problems: string[] } {
  const database = new Database(path, { fileMustExist: true });
  const rows: JournalRow[] = [];
  const problems: string[] = [];
  try {
    for (const stored of database.prepare<[], StoredRow>('SELECT name, entry, crc FROM staged').iterate()) {
      try {
        rows.push(rowOf(stored));
      } catch (error) {
        problems.push(describeError(error));
      }
    }
  } catch (error) {
    problems.push(`the journal ends early: ${describeError(error)}`);
  } finally {
    database.close();
  }
  return { rows, problems };
}

function checksumOf(name: string, entry: string): number {
  return crc32(entry, crc32(name));
}

function textOf({ sizeBytes, entry }: JournalRow): string {
  const extended = Object.entries(entry.attributes.extended).map(([name, value]) => [
    name,
    Buffer.from(value).toString('base64'),
  ]);
  const stored = {
    ...entry,
    sizeBytes,
    committed: entry.committed ?? null,
    attributes: { ...entry.attributes, extended: Object.fromEntries(extended) as Record<string, string> },
  };
  return JSON.stringify(stored, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}

function rowOf({ name, entry: text, crc }: StoredRow): JournalRow {
  if (checksumOf(name, text) !== crc)
    throw unverified(`the row of ${name} does not match its checksum`, undefined);
  try {
    const { sizeBytes, committed, ...entry } = rowSchema.parse(JSON.parse(text));
    return { name, sizeBytes, entry: { ...entry, committed: committed ?? undefined } };
  } catch (error) {
    throw unverified(`the row of ${name} has another form than this release writes`, error);
  }
}

function openJournal(path: string): Database.Database {
  let database: Database.Database | undefined;
  try {
    database = new Database(path, { timeout: 5_000 });
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    database.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    const version = database.pragma('user_version', { simple: true });
    const application = database.pragma('application_id', { simple: true });
    if (version === 0 && application === 0) {
      const ids = `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION};`;
      database.exec(`BEGIN; ${SCHEMA} ${ids} COMMIT`);
    } else if (application !== APPLICATION_ID || version !== SCHEMA_VERSION) {
      throw unverified(
        `${path} has format ${String(version)}; this release knows ${SCHEMA_VERSION}`,
        undefined,
      );
    }
    const check = database.pragma('integrity_check(1)', { simple: true });
    if (check !== 'ok') throw unverified(String(check), undefined);
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof CacheError) throw error;
    if (diskFault(error) === 'other') throw unverified(describeError(error), error);
    throw new CacheError('disk', `cannot open the journal ${path}`, {
      cause: error,
      hint: 'check the disk; the files of writers lie in the folder staging beside it',
    });
  }
}

export const SALVAGE_HINT =
  'nothing has been changed: save what is there with `perigee cache salvage --cache DIR --to DIR`, then delete ' +
  'journal.db, journal.db-wal and the folder staging';

function unverified(what: string, cause: unknown): CacheError {
  return new CacheError('journal', `the journal of files being written does not verify: ${what}`, {
    cause,
    hint: SALVAGE_HINT,
  });
}
