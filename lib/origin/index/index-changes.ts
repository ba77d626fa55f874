/**
 * What the origin itself changes in the index: one durable transaction a change, so that a change that was
 * acknowledged survives the death of the host, and one that was not is there whole or not at all.
 *
 * Beside the rows of names there are two kinds of promises to the object store, kept after a restart: `uploads` that
 * may have been completed, and `leftovers`, keys that are to be emptied; and one kind to satellites: `writes`.
 */
import { sql } from 'kysely';
import type { IndexDatabase } from './index-database.ts';
import { merge } from './index-merge.ts';
import {
  attributeColumns,
  type CarriedAttributes,
  type Found,
  type IndexedDirectory,
  type IndexedInode,
  type IndexedVersion,
  splitNs,
} from './index-rows.ts';
import type { DirectoryState, IndexSchema } from './index-schema.ts';
import type { IndexStatements } from './index-statements.ts';
import type { DirectoryKey, IndexWriter } from './index-writer.ts';
import { fromJson, toJson, WriteRows } from './write-rows.ts';

export interface UploadRow {
  readonly upload: string;
  readonly exportId: number;
  readonly directory: number;
  readonly names: readonly string[];
  readonly objectKey: string;
  readonly storeUpload: string;
  readonly attributes: string;
  readonly state: 'open' | 'committing';
  readonly begunMs: number;
  /** Of which write it makes a version: that tells the place, and `names` is empty. */
  readonly write: string | undefined;
  /** While it is committed for a write. */
  readonly commit: WriteCommit | undefined;
}

/** What a commit makes of a write. */
export interface WriteCommit {
  /** The same one again has the same result. */
  readonly operation: string;
  /** The write ends with it. */
  readonly isLast: boolean;
  readonly attributes: CarriedAttributes;
}

export interface Leftover {
  readonly key: string;
  readonly entityTag: string | undefined;
  readonly inode: number | undefined;
}

/** Inode numbers that one change may give. */
const INODES_OF_CHANGE_MAX = 1_000;

export class IndexChanges {
  readonly #database: IndexDatabase;
  readonly #statements: ReturnType<typeof prepareChangeStatements>;
  readonly #rows: IndexStatements;
  readonly #writer: IndexWriter;
  /** To be changed inside `durably` and `quickly`. */
  readonly writes: WriteRows;

  constructor(options: {
    readonly database: IndexDatabase;
    readonly statements: IndexStatements;
    readonly writer: IndexWriter;
  }) {
    this.writes = new WriteRows(options.database);
    this.#database = options.database;
    this.#rows = options.statements;
    this.#writer = options.writer;
    this.#statements = prepareChangeStatements(options.database);
  }

  /** All or nothing, and on the disk when it returns. */
  durably<T>(work: (rows: ChangedRows) => T): T {
    this.#writer.reserve(INODES_OF_CHANGE_MAX);
    return this.#database.durably(() => work(this.#changedRows()));
  }

  /** All or nothing; the death of the host may undo it. For what is found out again. */
  quickly<T>(work: (rows: ChangedRows) => T): T {
    this.#writer.reserve(INODES_OF_CHANGE_MAX);
    return this.#database.transaction(() => work(this.#changedRows()));
  }

  upload(upload: string): UploadRow | undefined {
    const row = this.#statements.upload.get({ upload });
    return row === undefined ? undefined : uploadOf(row);
  }

  uploads(exportId: number): UploadRow[] {
    return this.#statements.uploads.all({ export: exportId }).map(uploadOf);
  }

  uploadsOf(write: string): UploadRow[] {
    return this.#statements.uploadsOf.all({ write }).map(uploadOf);
  }

  leftovers(exportId: number): Leftover[] {
    return this.#statements.leftovers.all({ export: exportId }).map(({ key, entity_tag, inode }) => ({
      key,
      entityTag: entity_tag ?? undefined,
      inode: inode ?? undefined,
    }));
  }

  #changedRows(): ChangedRows {
    const { writes } = this;
    return new ChangedRows({ rows: this.#rows, statements: this.#statements, writer: this.#writer, writes });
  }
}

/** The rows inside a transaction; not to be used after it. */
export class ChangedRows {
  readonly #rows: IndexStatements;
  readonly #statements: ReturnType<typeof prepareChangeStatements>;
  readonly #writer: IndexWriter;
  readonly writes: WriteRows;

  constructor(options: {
    readonly rows: IndexStatements;
    readonly statements: ReturnType<typeof prepareChangeStatements>;
    readonly writer: IndexWriter;
    readonly writes: WriteRows;
  }) {
    this.writes = options.writes;
    this.#rows = options.rows;
    this.#statements = options.statements;
    this.#writer = options.writer;
  }

  inode(exportId: number, inode: number): IndexedInode | undefined {
    return this.#writer.inode(exportId, inode);
  }

  child(key: DirectoryKey, name: string): IndexedInode | undefined {
    return this.#writer.child(key, name);
  }

  directory({ exportId, directory }: DirectoryKey): IndexedDirectory | undefined {
    const row = this.#rows.directory.get({ export: exportId, inode: directory });
    if (row === undefined) return undefined;
    const { inode, key_prefix: keyPrefix, state, listed_through } = row;
    return { inode, keyPrefix, state, listedThrough: listed_through ?? undefined };
  }

  hasChildren({ exportId, directory }: DirectoryKey): boolean {
    const one = { export: exportId, parent: directory, after: '', limit: 1 };
    return this.#rows.children.all(one).length > 0;
  }

  /** Whether the bytes of any child lie elsewhere than below this prefix. */
  hasChildElsewhere({ exportId, directory }: DirectoryKey, prefix: string): boolean {
    const values = { export: exportId, parent: directory, prefix };
    return (
      this.#statements.fileElsewhere.get(values) !== undefined ||
      this.#statements.directoryElsewhere.get(values) !== undefined
    );
  }

  /**
   * What was committed under a name. Undefined: the directory is gone.
   *
   * @param options.inode the number that it gets if the name is new
   */
  place(
    key: DirectoryKey,
    name: string,
    found: Found,
    options: { readonly inode?: number | undefined } = {},
  ): IndexedInode | undefined {
    const parent = this.directory(key);
    if (parent === undefined) return undefined;
    const { keyPrefix } = parent;
    const existing = this.child(key, name);
    const evidence = 'commit';
    const at = {
      ...key,
      ...options,
      keyPrefix,
      name,
      evidence,
      listed: parent.state !== 'unlisted',
    } as const;
    const merged = merge(existing, found, { evidence, naturalKey: keyPrefix + name });
    this.#writer.write(at, existing, merged);
    return this.child(key, name);
  }

  /** Nothing lies in a directory that was just made. */
  setListed(exportId: number, directory: number): void {
    const state = 'listed' satisfies DirectoryState;
    this.#rows.setDirectory.run({ export: exportId, inode: directory, state, listed_through: null });
    this.#writer.totalsOf(exportId).directoriesListed += 1;
  }

  /** A number that will be placed later. */
  newInode(): number {
    return this.#writer.newInode();
  }

  setAttributes(exportId: number, inode: number, attributes: CarriedAttributes): void {
    this.#rows.setAttributes.run({ export: exportId, inode, ...attributeColumns(attributes) });
  }

  remove(exportId: number, row: IndexedInode): void {
    this.#writer.remove(exportId, row);
  }

  /** The inode gets another place; its bytes stay where they are. */
  move(exportId: number, inode: number, to: { readonly parent: number; readonly name: string }): void {
    this.#rows.moveInode.run({ export: exportId, inode, ...to });
  }

  setTimes(exportId: number, inode: number, ns: bigint): void {
    const [seconds, nanoseconds] = splitNs(ns);
    this.#rows.setTimes.run({ export: exportId, inode, seconds, nanoseconds });
  }

  /** The bytes of a version lie at another key now; it keeps its identity. */
  setObject(exportId: number, inode: number, version: IndexedVersion): void {
    this.#writer.insertVersion(exportId, inode, version);
  }

  setKeyPrefix(exportId: number, directory: number, keyPrefix: string): void {
    this.#rows.setKeyPrefix.run({ export: exportId, inode: directory, key_prefix: keyPrefix });
  }

  insertUpload(row: UploadRow): void {
    this.#statements.insertUpload.run({
      upload: row.upload,
      export: row.exportId,
      directory: row.directory,
      names: JSON.stringify(row.names),
      object_key: row.objectKey,
      store_upload: row.storeUpload,
      attributes: row.attributes,
      state: row.state,
      begun_ms: row.begunMs,
      write: row.write ?? null,
      commit: row.commit === undefined ? null : toJson(row.commit),
    });
  }

  setUploadState(upload: string, { state, commit }: Pick<UploadRow, 'state' | 'commit'>): void {
    this.#statements.setUploadState.run({
      upload,
      state,
      commit: commit === undefined ? null : toJson(commit),
    });
  }

  deleteUpload(upload: string): void {
    this.#statements.deleteUpload.run({ upload });
  }

  putLeftover(exportId: number, { key, entityTag, inode }: Leftover): void {
    const values = { export: exportId, key, entity_tag: entityTag ?? null, inode: inode ?? null };
    this.#statements.putLeftover.run(values);
  }

  deleteLeftover(exportId: number, key: string): void {
    this.#statements.deleteLeftover.run({ export: exportId, key });
  }
}

function uploadOf(row: IndexSchema['uploads']): UploadRow {
  return {
    upload: row.upload,
    exportId: row.export_id,
    directory: row.directory,
    names: JSON.parse(row.names) as string[],
    objectKey: row.object_key,
    storeUpload: row.store_upload,
    attributes: row.attributes,
    state: row.state,
    begunMs: row.begun_ms,
    write: row.write ?? undefined,
    commit: row.commit === null ? undefined : fromJson<WriteCommit>(row.commit),
  };
}

function prepareChangeStatements(database: IndexDatabase) {
  type UploadName =
    | 'upload'
    | 'export'
    | 'directory'
    | 'names'
    | 'object_key'
    | 'store_upload'
    | 'attributes'
    | 'state'
    | 'begun_ms'
    | 'write'
    | 'commit';
  return {
    upload: database.prepare<IndexSchema['uploads'], 'upload'>((db, p) =>
      db.selectFrom('uploads').selectAll().where('upload', '=', p('upload')),
    ),
    uploads: database.prepare<IndexSchema['uploads'], 'export'>((db, p) =>
      db.selectFrom('uploads').selectAll().where('export_id', '=', p('export')),
    ),
    insertUpload: database.prepare<unknown, UploadName>((db, p) =>
      db.insertInto('uploads').values({
        upload: p('upload'),
        export_id: p('export'),
        directory: p('directory'),
        names: p('names'),
        object_key: p('object_key'),
        store_upload: p('store_upload'),
        attributes: p('attributes'),
        state: p('state'),
        begun_ms: p('begun_ms'),
        write: p('write'),
        commit: p('commit'),
      }),
    ),
    uploadsOf: database.prepare<IndexSchema['uploads'], 'write'>((db, p) =>
      db.selectFrom('uploads').selectAll().where('write', '=', p('write')),
    ),
    setUploadState: database.prepare<unknown, 'upload' | 'state' | 'commit'>((db, p) =>
      db
        .updateTable('uploads')
        .set({ state: p('state'), commit: p('commit') })
        .where('upload', '=', p('upload')),
    ),
    deleteUpload: database.prepare<unknown, 'upload'>((db, p) =>
      db.deleteFrom('uploads').where('upload', '=', p('upload')),
    ),
    fileElsewhere: database.prepare<unknown, 'export' | 'parent' | 'prefix'>((db, p) =>
      db
        .selectFrom('inodes as i')
        .innerJoin('versions as v', (join) =>
          join
            .onRef('v.export_id', '=', 'i.export_id')
            .onRef('v.inode', '=', 'i.inode')
            .onRef('v.version_id', '=', 'i.version_id'),
        )
        .select('i.inode')
        .where('i.export_id', '=', p('export'))
        .where('i.parent', '=', p('parent'))
        .where(sql<boolean>`v.object_key <> ${p('prefix')} || i.name`)
        .limit(1),
    ),
    directoryElsewhere: database.prepare<unknown, 'export' | 'parent' | 'prefix'>((db, p) =>
      db
        .selectFrom('inodes as i')
        .innerJoin('directories as d', (join) =>
          join.onRef('d.export_id', '=', 'i.export_id').onRef('d.inode', '=', 'i.inode'),
        )
        .select('i.inode')
        .where('i.export_id', '=', p('export'))
        .where('i.parent', '=', p('parent'))
        .where(sql<boolean>`d.key_prefix <> ${p('prefix')} || i.name || '/'`)
        .limit(1),
    ),
    leftovers: database.prepare<IndexSchema['leftovers'], 'export'>((db, p) =>
      db.selectFrom('leftovers').selectAll().where('export_id', '=', p('export')),
    ),
    putLeftover: database.prepare<unknown, 'export' | 'key' | 'entity_tag' | 'inode'>((db, p) =>
      db
        .insertInto('leftovers')
        .values({
          export_id: p('export'),
          key: p('key'),
          entity_tag: p('entity_tag'),
          inode: p('inode'),
        })
        .onConflict((conflict) =>
          conflict
            .columns(['export_id', 'key'])
            .doUpdateSet({ entity_tag: p('entity_tag'), inode: p('inode') }),
        ),
    ),
    deleteLeftover: database.prepare<unknown, 'export' | 'key'>((db, p) =>
      db.deleteFrom('leftovers').where('export_id', '=', p('export')).where('key', '=', p('key')),
    ),
  };
}
