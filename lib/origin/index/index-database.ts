/**
 * Opens the SQLite file of an index and runs typed queries on it.
 *
 * Queries are built by kysely from the one schema and compiled once into prepared statements, because a lookup is
 * one of them and building it each time would cost more than running it. The connection holds SQLite's exclusive
 * lock as long as it lives: a second origin on the same directory is refused, a dead one leaves no lock behind.
 * Transactions are in the WAL when they return, so they survive the death of the process; `durably` also survives
 * the death of the host.
 */
import Database from 'better-sqlite3';
import {
  type CompiledQuery,
  Kysely,
  SqliteAdapter,
  DummyDriver,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { randomId } from '../../base/prng.ts';
import { INDEX_FORMAT, type IndexSchema, migrations } from './index-schema.ts';
import { OriginError } from '../origin.ts';

/** Marks the file as ours: "PRGO". */
const APPLICATION_ID = 0x5052474f;
/** Above the numbers that mean something: 0 is none, 1 the root. */
const FIRST_INODE_MIN = 2;
/** 2^48 numbers to begin at leave as many to give, many times over, below 2^53. */
const FIRST_INODE_RANDOM_BYTES = 6;
/** Pages of SQLite's own cache. */
const PAGE_CACHE_KIB = 64 * 1024;

type SqlValue = string | number | null;

class Parameter {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

export interface Statement<Row, Name extends string> {
  get(values: Readonly<Record<Name, SqlValue>>): Row | undefined;
  all(values: Readonly<Record<Name, SqlValue>>): Row[];
  run(values: Readonly<Record<Name, SqlValue>>): number;
}

/** Builds queries; has no connection of its own. */
const builder = new Kysely<IndexSchema>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});

export class IndexDatabase {
  readonly #database: Database.Database;
  readonly #begin: Database.Statement;
  readonly #commit: Database.Statement;
  readonly #rollback: Database.Statement;
  #mode: 'normal' | 'full' = 'normal';

  /** @throws OriginError `foreign`, `format`, `locked`, `index` */
  constructor(file: string) {
    this.#database = openFile(file);
    this.#begin = this.#database.prepare('begin immediate');
    this.#commit = this.#database.prepare('commit');
    this.#rollback = this.#database.prepare('rollback');
    try {
      this.#migrate(file);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /**
   * @param build gets the typed query builder and a maker of named parameters, whose type fits any column
   */
  prepare<Row, Name extends string>(
    build: (db: Kysely<IndexSchema>, parameter: (name: Name) => never) => { compile(): CompiledQuery<Row> },
  ): Statement<Row, Name> {
    const compiled = build(builder, (name) => new Parameter(name) as never).compile();
    const statement = this.#database.prepare<SqlValue[], Row>(compiled.sql);
    const bind = (values: Readonly<Record<string, SqlValue>>): SqlValue[] =>
      compiled.parameters.map((parameter) =>
        parameter instanceof Parameter ? (values[parameter.name] as SqlValue) : (parameter as SqlValue),
      );
    return {
      get: (values) => statement.get(...bind(values)),
      all: (values) => statement.all(...bind(values)),
      run: (values) => statement.run(...bind(values)).changes,
    };
  }

  /** All or nothing. */
  transaction<T>(work: () => T): T {
    this.#synchronize('normal');
    return this.#transact(work);
  }

  /** A transaction that is on the disk when it returns, and everything before it too. */
  durably<T>(work: () => T): T {
    this.#synchronize('full');
    return this.#transact(work);
  }

  /** Saying it costs as much as a small transaction, so it is said when it changes. */
  #synchronize(mode: 'normal' | 'full'): void {
    if (mode === this.#mode) return;
    this.#database.pragma(`synchronous = ${mode}`);
    this.#mode = mode;
  }

  #transact<T>(work: () => T): T {
    this.#begin.run();
    try {
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      if (this.#database.inTransaction) this.#rollback.run();
      throw error;
    }
  }

  close(): void {
    this.#database.close();
  }

  #migrate(file: string): void {
    const exists =
      this.#database.prepare("select 1 from sqlite_schema where name = 'meta'").get() !== undefined;
    const format = exists
      ? (this.#database.prepare<[], { format: number }>('select format from meta').get()?.format ?? 0)
      : 0;
    if (format > INDEX_FORMAT) {
      throw new OriginError(
        'format',
        `${file} has format ${format}, and this release knows formats up to ${INDEX_FORMAT}`,
        { hint: 'start the release that wrote it, or begin anew with an empty data directory' },
      );
    }
    if (format === INDEX_FORMAT) return;
    this.durably(() => {
      for (const step of migrations.slice(format)) {
        for (const statement of step(builder)) this.#database.exec(statement.compile().sql);
      }
      if (format === 0) {
        this.#database.prepare('insert into meta values (0, 0, ?)').run(firstInode());
      }
      this.#database.prepare('update meta set format = ?').run(INDEX_FORMAT);
      this.#database.pragma(`application_id = ${APPLICATION_ID}`);
    });
  }
}

/**
 * A new index begins its numbers where no earlier one did, so that a satellite which still holds numbers of an index
 * that was deleted is told that they are gone, not about other files.
 */
function firstInode(): number {
  return FIRST_INODE_MIN + parseInt(randomId(FIRST_INODE_RANDOM_BYTES), 16);
}

function openFile(file: string): Database.Database {
  let database: Database.Database | undefined;
  try {
    database = new Database(file, { timeout: 0 });
    const application = database.pragma('application_id', { simple: true });
    const empty = database.prepare('select 1 from sqlite_schema').get() === undefined;
    if (application !== APPLICATION_ID && !empty) throw foreign(file);
    database.pragma('locking_mode = exclusive');
    database.pragma('journal_mode = wal');
    database.pragma('synchronous = normal');
    database.pragma(`cache_size = -${PAGE_CACHE_KIB}`);
    // Takes the lock now rather than at the first write.
    database.exec('begin immediate; commit');
    return database;
  } catch (error) {
    database?.close();
    throw openFailure(file, error);
  }
}

function foreign(file: string, cause?: unknown): OriginError {
  return new OriginError('foreign', `${file} is not the index of an origin`, {
    cause,
    hint: 'choose an empty directory, or the data directory of an earlier start',
  });
}

function openFailure(file: string, error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) {
    return error instanceof OriginError
      ? error
      : new OriginError('index', `cannot open ${file}`, {
          cause: error,
          hint: 'check that the directory exists and that this user may write it',
        });
  }
  if (error.code.startsWith('SQLITE_BUSY') || error.code.startsWith('SQLITE_LOCKED')) {
    return new OriginError('locked', `${file} belongs to another running origin`, {
      cause: error,
      hint: 'stop the other origin, or choose another data directory',
    });
  }
  if (error.code === 'SQLITE_NOTADB') return foreign(file, error);
  return new OriginError('index', `cannot open ${file}`, {
    cause: error,
    hint: error.code.startsWith('SQLITE_CORRUPT')
      ? 'the index is damaged; move the directory away and start anew, it is rebuilt from the stores'
      : 'check the free space and the permissions of the data directory',
  });
}
