/**
 * What the cache remembers across restarts: one row for each blob, in SQLite with a write-ahead log.
 *
 * Rows are written in groups by the recorder; nothing here is on the way of a read. A commit survives the death
 * of the process at once and the death of the host from the next checkpoint on; an older state of the catalog
 * is always safe, because every block is compared with its checksum before it is served after a start.
 */
import Database from 'better-sqlite3';
import { CacheError } from './block-cache.ts';

const SCHEMA_VERSION = 1;

const SCHEMA = `
  CREATE TABLE blob (
    version TEXT PRIMARY KEY,
    export_name TEXT NOT NULL,
    inode TEXT NOT NULL,
    path TEXT NOT NULL,
    object_key TEXT NOT NULL,
    object_version TEXT,
    entity_tag TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    block_bytes INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('filling', 'complete')),
    present BLOB NOT NULL,
    checksums BLOB NOT NULL,
    pinned INTEGER NOT NULL,
    admission TEXT NOT NULL,
    uses INTEGER NOT NULL,
    gaps INTEGER NOT NULL,
    gap_bytes REAL NOT NULL,
    used_at_bytes REAL NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blob_path ON blob (path);
  CREATE TABLE setting (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
`;

/** Counters of use, in the terms of the eviction policy. */
export interface UsageRow {
  readonly uses: number;
  readonly gaps: number;
  readonly gap_bytes: number;
  readonly used_at_bytes: number;
}

export interface BlobRow extends UsageRow {
  readonly version: string;
  readonly export_name: string;
  /** Decimal digits: 64 bits do not fit a number. */
  readonly inode: string;
  readonly path: string;
  readonly object_key: string;
  readonly object_version: string | null;
  readonly entity_tag: string;
  readonly size_bytes: number;
  readonly block_bytes: number;
  readonly shard: number;
  readonly state: 'filling' | 'complete';
  /** One bit a block, lowest first. */
  readonly present: Uint8Array;
  /** CRC-32 of each block, little-endian; of absent ones anything. */
  readonly checksums: Uint8Array;
  readonly pinned: 0 | 1;
  readonly admission: string;
}

/** What is kept in memory of every blob. */
export type LeanRow = UsageRow &
  Pick<BlobRow, 'version' | 'size_bytes' | 'block_bytes' | 'shard' | 'state' | 'pinned'>;
export type ListRow = LeanRow & Pick<BlobRow, 'export_name' | 'path' | 'present'>;

export type PlaceRow = Pick<BlobRow, 'version' | 'export_name' | 'path' | 'size_bytes'>;

export interface CatalogChanges {
  readonly upserts: readonly BlobRow[];
  /** Versions whose bytes are on the device now. */
  readonly durable: readonly string[];
  readonly usages: readonly (UsageRow & { readonly version: string })[];
  readonly removals: readonly string[];
  readonly settings: Readonly<Record<string, number>>;
}

const COLUMNS = [
  ...['version', 'export_name', 'inode', 'path', 'object_key', 'object_version', 'entity_tag'],
  ...['size_bytes', 'block_bytes', 'shard', 'state', 'present', 'checksums', 'pinned', 'admission'],
  ...['uses', 'gaps', 'gap_bytes', 'used_at_bytes'],
] as const;

const LIST_COLUMNS = `version, export_name, path, size_bytes, block_bytes, shard, state, present, pinned,
  uses, gaps, gap_bytes, used_at_bytes`;

export class Catalog {
  readonly #database: Database.Database;
  readonly #get: Database.Statement<[string], BlobRow>;
  readonly #upsert: Database.Statement<[BlobRow]>;
  readonly #usage: Database.Statement<[UsageRow & { readonly version: string }]>;
  readonly #durable: Database.Statement<[string]>;
  readonly #remove: Database.Statement<[string]>;
  readonly #set: Database.Statement<[string, number]>;
  readonly #places: Database.Statement<[string, number], PlaceRow>;
  readonly #listAll: Database.Statement<[], ListRow>;
  readonly #listBelow: Database.Statement<[{ readonly path: string }], ListRow>;

  /** @throws CacheError disk, format */
  constructor(path: string) {
    this.#database = openDatabase(path);
    const db = this.#database;
    const updates = COLUMNS.slice(1).map((column) => `${column} = excluded.${column}`);
    this.#get = db.prepare('SELECT * FROM blob WHERE version = ?');
    this.#upsert = db.prepare(
      `INSERT INTO blob (${COLUMNS.join(', ')}) VALUES (${COLUMNS.map((column) => `@${column}`).join(', ')})
       ON CONFLICT (version) DO UPDATE SET ${updates.join(', ')}`,
    );
    this.#usage = db.prepare(
      `UPDATE blob SET uses = @uses, gaps = @gaps, gap_bytes = @gap_bytes, used_at_bytes = @used_at_bytes
       WHERE version = @version`,
    );
    this.#durable = db.prepare("UPDATE blob SET state = 'complete' WHERE version = ?");
    this.#remove = db.prepare('DELETE FROM blob WHERE version = ?');
    this.#set = db.prepare(
      'INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
    );
    this.#places = db.prepare(
      'SELECT version, export_name, path, size_bytes FROM blob WHERE version > ? ORDER BY version LIMIT ?',
    );
    this.#listAll = db.prepare(`SELECT ${LIST_COLUMNS} FROM blob ORDER BY path, version`);
    // Below `a` lies what begins with `a/`; '0' is the character behind '/'.
    this.#listBelow = db.prepare(
      `SELECT ${LIST_COLUMNS} FROM blob
       WHERE path = @path OR (path > @path || '/' AND path < @path || '0') ORDER BY path, version`,
    );
  }

  get(version: string): BlobRow | undefined {
    return this.#get.get(version);
  }

  lean(): IterableIterator<LeanRow> {
    return this.#database
      .prepare<[], LeanRow>(
        `SELECT version, size_bytes, block_bytes, shard, state, pinned, uses, gaps, gap_bytes, used_at_bytes
         FROM blob ORDER BY used_at_bytes`,
      )
      .iterate();
  }

  /** Blobs of the file of that path, or of every file below it; all without a path. */
  list(path: string | undefined): ListRow[] {
    return path === undefined || path === '' ? this.#listAll.all() : this.#listBelow.all({ path });
  }

  /** What each blob is of, behind a version in their order. */
  places(after: string, rowsMax: number): PlaceRow[] {
    return this.#places.all(after, rowsMax);
  }

  settings(): Record<string, number> {
    const rows = this.#database
      .prepare<[], { name: string; value: number }>('SELECT name, value FROM setting')
      .all();
    return Object.fromEntries(rows.map((row) => [row.name, row.value]));
  }

  /** All of it or nothing. */
  commit(changes: CatalogChanges): void {
    this.#database.transaction(() => {
      for (const version of changes.removals) this.#remove.run(version);
      for (const row of changes.upserts) this.#upsert.run(row);
      for (const version of changes.durable) this.#durable.run(version);
      for (const usage of changes.usages) this.#usage.run(usage);
      for (const [name, value] of Object.entries(changes.settings)) this.#set.run(name, value);
    })();
  }

  remove(version: string): void {
    this.#remove.run(version);
  }

  close(): void {
    this.#database.pragma('wal_checkpoint(TRUNCATE)');
    this.#database.close();
  }
}

function openDatabase(path: string): Database.Database {
  let database: Database.Database | undefined;
  try {
    database = new Database(path, { timeout: 5_000 });
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    const version = database.pragma('user_version', { simple: true });
    if (version === 0) {
      database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
    } else if (version !== SCHEMA_VERSION) {
      throw new CacheError(
        'format',
        `${path} has schema ${String(version)}; this release knows ${SCHEMA_VERSION}`,
        {
          hint: 'use the release that made it, or delete this file; what it lists can be fetched again',
        },
      );
    }
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof CacheError) throw error;
    throw new CacheError('disk', `cannot open the catalog ${path}`, {
      cause: error,
      hint: 'delete this file if its disk is sound; what it lists can be fetched again',
    });
  }
}
