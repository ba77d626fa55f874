/**
 * The rows of writes: each is the right to make the next version of one file, and outlives the session that has it.
 *
 * A write of a file that has no version yet has a place instead: the name is reserved there, nobody but its session
 * sees it, and the inode's number is given, but has no row. A write that has ended stays for a while with what it
 * committed, for who did not hear the answer. To be used inside transactions of the index.
 */
import type { IndexDatabase } from './index-database.ts';
import type { CarriedAttributes, IndexedVersion } from './index-rows.ts';
import type { IndexSchema } from './index-schema.ts';
import type { DirectoryKey } from './index-writer.ts';

export interface WriteRow {
  readonly write: string;
  readonly exportId: number;
  /** Fencing token: grows with each write of an export. */
  readonly token: number;
  readonly inode: number;
  readonly session: string;
  readonly host: string;
  /** Where the file is to be while it has no version. */
  readonly place: { readonly directory: number; readonly name: string } | undefined;
  /** What the file was made with. */
  readonly attributes: CarriedAttributes;
  /** The last commit. */
  readonly committed: { readonly operation: string; readonly version: IndexedVersion } | undefined;
  readonly begunMs: number;
  readonly endedMs: number | undefined;
}

/** Ended ones of one export. */
const ENDED_MAX = 10_000;
/** How often ended ones are counted: once in so many. */
const ENDED_CHECK = 1_000;

export class WriteRows {
  readonly #statements: ReturnType<typeof prepareWriteStatements>;
  /** Those that go on, by export, once they were counted. */
  readonly #open = new Map<number, number>();
  #ended = 0;

  constructor(database: IndexDatabase) {
    this.#statements = prepareWriteStatements(database);
  }

  /** Also one that has ended. */
  get(write: string): WriteRow | undefined {
    return rowOf(this.#statements.get.get({ write }));
  }

  /** The one that goes on. */
  ofInode(exportId: number, inode: number): WriteRow | undefined {
    return rowOf(this.#statements.ofInode.get({ export: exportId, inode }));
  }

  /** Of a file without a version. */
  at({ exportId, directory }: DirectoryKey, name: string): WriteRow | undefined {
    return rowOf(this.#statements.at.get({ export: exportId, parent: directory, name }));
  }

  /** Of files without a version, in one directory. */
  in({ exportId, directory }: DirectoryKey): WriteRow[] {
    return this.#statements.in.all({ export: exportId, parent: directory }).map(fromRow);
  }

  /** That go on. */
  count(exportId: number): number {
    const known = this.#open.get(exportId);
    if (known !== undefined) return known;
    const counted = this.#statements.count.get({ export: exportId })?.open ?? 0;
    this.#open.set(exportId, counted);
    return counted;
  }

  nextToken(exportId: number): number {
    this.#statements.nextToken.run({ export: exportId });
    return this.#statements.lastToken.get({ export: exportId })?.token ?? 0;
  }

  insert(row: WriteRow): void {
    const { write, exportId, token, inode, session, host, place, attributes, begunMs } = row;
    this.#open.set(exportId, this.count(exportId) + 1);
    this.#statements.insert.run({
      ...{ write, export: exportId, token, inode, session, host, begun_ms: begunMs },
      parent: place?.directory ?? null,
      name: place?.name ?? null,
      attributes: toJson(attributes),
    });
  }

  setSession(write: string, holder: { readonly session: string; readonly host: string }): void {
    this.#statements.setSession.run({ write, ...holder });
  }

  /** @returns how many writes have another session now */
  succeed(earlier: string, session: string): number {
    return this.#statements.succeed.run({ earlier, session });
  }

  /** Undefined: the file has a version. */
  setPlace(write: string, place: { readonly directory: number; readonly name: string } | undefined): void {
    this.#statements.setPlace.run({
      write,
      parent: place?.directory ?? null,
      name: place?.name ?? null,
    });
  }

  setCommitted(write: string, committed: NonNullable<WriteRow['committed']>): void {
    this.#statements.setCommitted.run({ write, committed: toJson(committed) });
  }

  /** It is remembered for a while. */
  end(row: WriteRow, endedMs: number): void {
    this.#open.set(row.exportId, this.count(row.exportId) - 1);
    this.#statements.end.run({ write: row.write, ended_ms: endedMs });
    if (++this.#ended % ENDED_CHECK !== 0) return;
    const oldest = this.#statements.nthEnded.get({ export: row.exportId, skipped: ENDED_MAX });
    if (oldest !== undefined)
      this.#statements.forget.run({ export: row.exportId, ended_ms: oldest.ended_ms });
  }

  /** One that goes on; nothing is remembered of it. */
  delete({ exportId, write }: WriteRow): void {
    this.#open.set(exportId, this.count(exportId) - 1);
    this.#statements.delete.run({ write });
  }
}

function rowOf(row: IndexSchema['writes'] | undefined): WriteRow | undefined {
  return row === undefined ? undefined : fromRow(row);
}

function fromRow(row: IndexSchema['writes']): WriteRow {
  const { parent, name } = row;
  return {
    write: row.write,
    exportId: row.export_id,
    token: row.token,
    inode: row.inode,
    session: row.session,
    host: row.host,
    place: parent === null || name === null ? undefined : { directory: parent, name },
    attributes: fromJson<CarriedAttributes>(row.attributes),
    committed:
      row.committed === null ? undefined : fromJson<NonNullable<WriteRow['committed']>>(row.committed),
    begunMs: row.begun_ms,
    endedMs: row.ended_ms ?? undefined,
  };
}

/** Times are bigints, under names that end with `Ns`. */
export function toJson(value: object): string {
  return JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? String(one) : one));
}

/** Of what `toJson` has written. */
export function fromJson<T>(text: string): T {
  return JSON.parse(text, (key, one: unknown) =>
    key.endsWith('Ns') && typeof one === 'string' ? BigInt(one) : one,
  ) as T;
}

function prepareWriteStatements(database: IndexDatabase) {
  type Row = IndexSchema['writes'];
  return {
    get: database.prepare<Row, 'write'>((db, p) =>
      db.selectFrom('writes').selectAll().where('write', '=', p('write')),
    ),
    ofInode: database.prepare<Row, 'export' | 'inode'>((db, p) =>
      db
        .selectFrom('writes')
        .selectAll()
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode'))
        .where('ended_ms', 'is', null),
    ),
    at: database.prepare<Row, 'export' | 'parent' | 'name'>((db, p) =>
      db
        .selectFrom('writes')
        .selectAll()
        .where('export_id', '=', p('export'))
        .where('parent', '=', p('parent'))
        .where('name', '=', p('name'))
        .where('ended_ms', 'is', null),
    ),
    in: database.prepare<Row, 'export' | 'parent'>((db, p) =>
      db
        .selectFrom('writes')
        .selectAll()
        .where('export_id', '=', p('export'))
        .where('parent', '=', p('parent'))
        .where('ended_ms', 'is', null),
    ),
    count: database.prepare<{ open: number }, 'export'>((db, p) =>
      db
        .selectFrom('writes')
        .select((e) => e.fn.countAll<number>().as('open'))
        .where('export_id', '=', p('export'))
        .where('ended_ms', 'is', null),
    ),
    nextToken: database.prepare<unknown, 'export'>((db, p) =>
      db
        .updateTable('exports')
        .set((e) => ({ writes_begun: e('writes_begun', '+', 1) }))
        .where('export_id', '=', p('export')),
    ),
    lastToken: database.prepare<{ token: number }, 'export'>((db, p) =>
      db.selectFrom('exports').select('writes_begun as token').where('export_id', '=', p('export')),
    ),
    insert: database.prepare<
      unknown,
      | 'write'
      | 'export'
      | 'token'
      | 'inode'
      | 'session'
      | 'host'
      | 'parent'
      | 'name'
      | 'attributes'
      | 'begun_ms'
    >((db, p) =>
      db.insertInto('writes').values({
        write: p('write'),
        export_id: p('export'),
        token: p('token'),
        inode: p('inode'),
        session: p('session'),
        host: p('host'),
        parent: p('parent'),
        name: p('name'),
        attributes: p('attributes'),
        committed: null,
        begun_ms: p('begun_ms'),
        ended_ms: null,
      }),
    ),
    setSession: database.prepare<unknown, 'write' | 'session' | 'host'>((db, p) =>
      db
        .updateTable('writes')
        .set({ session: p('session'), host: p('host') })
        .where('write', '=', p('write')),
    ),
    succeed: database.prepare<unknown, 'earlier' | 'session'>((db, p) =>
      db
        .updateTable('writes')
        .set({ session: p('session') })
        .where('session', '=', p('earlier')),
    ),
    setPlace: database.prepare<unknown, 'write' | 'parent' | 'name'>((db, p) =>
      db
        .updateTable('writes')
        .set({ parent: p('parent'), name: p('name') })
        .where('write', '=', p('write')),
    ),
    setCommitted: database.prepare<unknown, 'write' | 'committed'>((db, p) =>
      db
        .updateTable('writes')
        .set({ committed: p('committed') })
        .where('write', '=', p('write')),
    ),
    end: database.prepare<unknown, 'write' | 'ended_ms'>((db, p) =>
      db
        .updateTable('writes')
        .set({ ended_ms: p('ended_ms') })
        .where('write', '=', p('write')),
    ),
    nthEnded: database.prepare<{ ended_ms: number | null }, 'export' | 'skipped'>((db, p) =>
      db
        .selectFrom('writes')
        .select('ended_ms')
        .where('export_id', '=', p('export'))
        .where('ended_ms', 'is not', null)
        .orderBy('ended_ms', 'desc')
        .limit(1)
        .offset(p('skipped')),
    ),
    forget: database.prepare<unknown, 'export' | 'ended_ms'>((db, p) =>
      db.deleteFrom('writes').where('export_id', '=', p('export')).where('ended_ms', '<=', p('ended_ms')),
    ),
    delete: database.prepare<unknown, 'write'>((db, p) =>
      db.deleteFrom('writes').where('write', '=', p('write')),
    ),
  };
}
