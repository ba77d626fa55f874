/**
 * The tables of the index, typed once for every query, and how each format came from the one before.
 *
 * Only types and functions that SQLite and PostgreSQL share are used; text is compared by its UTF-8 bytes (BINARY in
 * SQLite, "C" in PostgreSQL). Times are two integers because a nanosecond count does not fit a JavaScript number.
 * Invariants: (export, parent, name) is unique; a row of kind `directory` has a row in `directories`, and no other
 * has; a file or symlink has a version; numbers of inodes are never given twice in the life of an index.
 */
import { type Kysely, sql } from 'kysely';

export interface IndexSchema {
  /** One row. */
  meta: {
    format: number;
    epoch: number;
    /** Inode numbers below this one may have been given; the next start begins here. */
    inodes_reserved: number;
  };
  exports: {
    export_id: number;
    /** Told to satellites: another id means that numbers of inodes have another meaning. */
    public_id: string;
    name: string;
    /** Where the objects lie, see export-options.ts; another one is another export. */
    identity: string;
    created_ms: number;
    /** Writes that were ever begun: the fencing token of the last one. */
    writes_begun: number;
  };
  inodes: {
    export_id: number;
    inode: number;
    parent: number;
    name: string;
    kind: 'file' | 'directory' | 'symlink';
    /** Null: the export's default. */
    mode: number | null;
    uid: number | null;
    gid: number | null;
    modified_s: number;
    modified_ns: number;
    changed_s: number;
    changed_ns: number;
    version_id: string | null;
    target: string | null;
    /** 1: the object itself was asked, so kind and attributes are certain whatever a listing may still bring. */
    resolved: number;
    /** 1: a listing of the parent that has begun met it, or it was resolved since. */
    listed: number;
    /** Extended attributes: JSON, by name, in base64. */
    extended: string | null;
    /** 1: attributes were given here, and what the object carries is older than they are. */
    own_attributes: number;
  };
  versions: {
    export_id: number;
    inode: number;
    version_id: string;
    object_key: string;
    object_version: string | null;
    entity_tag: string;
    size_bytes: number;
    /** When the store says that the object was put; null: it was put by us and not met by a listing since. */
    stored_s: number | null;
  };
  directories: {
    export_id: number;
    inode: number;
    /** What its keys begin with: empty for the root, else ends with `/`. */
    key_prefix: string;
    state: DirectoryState;
    /** While `listing`: the last key or common prefix that the index has. */
    listed_through: string | null;
  };
  /** Sessions that may hold leases: a restart waits for them. */
  sessions: {
    session: string;
    export_id: number;
    host: string;
    tenant: string;
    opened_ms: number;
    /** Of its leases, which outlive this process by so much at most. */
    term_ms: number;
  };
  /** Uploads that were begun and neither committed nor aborted. */
  uploads: {
    upload: string;
    export_id: number;
    /** The directory below which the path lies, and the rest of the path as a JSON list of names. */
    directory: number;
    names: string;
    object_key: string;
    store_upload: string;
    /** JSON; see uploads.ts. */
    attributes: string;
    /** `committing`: the object may have been completed; a restart asks the store. */
    state: 'open' | 'committing';
    begun_ms: number;
    /** Of which write it makes a version: that tells the place. */
    write: string | null;
    /** Of a write's commit, JSON: see uploads.ts. */
    commit: string | null;
  };
  /** The right to make the next version of a file, see write-rows.ts. */
  writes: {
    write: string;
    export_id: number;
    /** Fencing token. */
    token: number;
    inode: number;
    /** Whose it is; the row outlives the session. */
    session: string;
    host: string;
    /** Where the file is to be, while it has no version; null: it has one. */
    parent: number | null;
    name: string | null;
    /** JSON: what the file was made with. */
    attributes: string;
    /** The last commit and what it made, JSON; null: none. */
    committed: string | null;
    begun_ms: number;
    /** Kept for a while for who did not hear the answer; null: it goes on. */
    ended_ms: number | null;
  };
  /**
   * Keys whose objects have no name any more: removed, or renamed and not yet moved. Until they are gone from the
   * store, what lies there is no evidence for the name that the key would have.
   */
  leftovers: {
    export_id: number;
    /** Ends with `/`: all keys that begin with it. */
    key: string;
    /** Only an object with this tag is deleted; null for a whole prefix. */
    entity_tag: string | null;
    /** The inode whose bytes still lie here, and are moved first. */
    inode: number | null;
  };
  /** Directories that are gone while rows below them are still to be swept. */
  removals: { export_id: number; inode: number };
  /** Every document of policies that held, and how it came about. The newest one holds. */
  policies: {
    version: number;
    document: string;
    action: 'apply' | 'delete' | 'rollback';
    /** What was deleted, or the version that was gone back to. */
    subject: string;
    tenant: string;
    host: string;
    made_ms: number;
    policies: number;
  };
}

export type DirectoryState = 'unlisted' | 'listing' | 'listed';

/** The format that this release writes; each entry of `migrations` leads from its place to the next format. */
export const migrations: readonly ((
  schema: Kysely<IndexSchema>,
) => readonly { compile(): { sql: string } }[])[] = [
  ({ schema }) => [
    schema
      .createTable('meta')
      .addColumn('format', 'integer', (c) => c.notNull())
      .addColumn('epoch', 'integer', (c) => c.notNull())
      .addColumn('inodes_reserved', 'bigint', (c) => c.notNull()),
    schema
      .createTable('exports')
      .addColumn('export_id', 'integer', (c) => c.primaryKey())
      .addColumn('public_id', 'text', (c) => c.notNull())
      .addColumn('name', 'text', (c) => c.notNull().unique())
      .addColumn('identity', 'text', (c) => c.notNull())
      .addColumn('created_ms', 'bigint', (c) => c.notNull()),
    schema
      .createTable('inodes')
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('inode', 'bigint', (c) => c.notNull())
      .addColumn('parent', 'bigint', (c) => c.notNull())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('kind', 'text', (c) => c.notNull())
      .addColumn('mode', 'integer')
      .addColumn('uid', 'bigint')
      .addColumn('gid', 'bigint')
      .addColumn('modified_s', 'bigint', (c) => c.notNull())
      .addColumn('modified_ns', 'integer', (c) => c.notNull())
      .addColumn('changed_s', 'bigint', (c) => c.notNull())
      .addColumn('changed_ns', 'integer', (c) => c.notNull())
      .addColumn('version_id', 'text')
      .addColumn('target', 'text')
      .addColumn('resolved', 'integer', (c) => c.notNull())
      .addColumn('listed', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('inodes_key', ['export_id', 'inode'])
      .addUniqueConstraint('inodes_name', ['export_id', 'parent', 'name'])
      .modifyEnd(sql`without rowid`),
    schema
      .createTable('versions')
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('version_id', 'text', (c) => c.notNull())
      .addColumn('inode', 'bigint', (c) => c.notNull())
      .addColumn('object_key', 'text', (c) => c.notNull())
      .addColumn('object_version', 'text')
      .addColumn('entity_tag', 'text', (c) => c.notNull())
      .addColumn('size_bytes', 'bigint', (c) => c.notNull())
      .addPrimaryKeyConstraint('versions_key', ['export_id', 'inode', 'version_id'])
      .modifyEnd(sql`without rowid`),
    schema
      .createTable('directories')
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('inode', 'bigint', (c) => c.notNull())
      .addColumn('key_prefix', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('listed_through', 'text')
      .addPrimaryKeyConstraint('directories_key', ['export_id', 'inode'])
      .modifyEnd(sql`without rowid`),
    schema
      .createTable('removals')
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('inode', 'bigint', (c) => c.notNull())
      .addPrimaryKeyConstraint('removals_key', ['export_id', 'inode'])
      .modifyEnd(sql`without rowid`),
  ],
  ({ schema }) => [
    schema
      .createTable('sessions')
      .addColumn('session', 'text', (c) => c.primaryKey())
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('host', 'text', (c) => c.notNull())
      .addColumn('tenant', 'text', (c) => c.notNull())
      .addColumn('opened_ms', 'bigint', (c) => c.notNull())
      .addColumn('term_ms', 'integer', (c) => c.notNull())
      .modifyEnd(sql`without rowid`),
  ],
  ({ schema }) => [
    schema
      .createTable('uploads')
      .addColumn('upload', 'text', (c) => c.primaryKey())
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('directory', 'bigint', (c) => c.notNull())
      .addColumn('names', 'text', (c) => c.notNull())
      .addColumn('object_key', 'text', (c) => c.notNull())
      .addColumn('store_upload', 'text', (c) => c.notNull())
      .addColumn('attributes', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('begun_ms', 'bigint', (c) => c.notNull())
      .modifyEnd(sql`without rowid`),
    schema
      .createTable('leftovers')
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('key', 'text', (c) => c.notNull())
      .addColumn('entity_tag', 'text')
      .addColumn('inode', 'bigint')
      .addPrimaryKeyConstraint('leftovers_key', ['export_id', 'key'])
      .modifyEnd(sql`without rowid`),
    schema
      .createTable('policies')
      .addColumn('version', 'bigint', (c) => c.primaryKey())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('action', 'text', (c) => c.notNull())
      .addColumn('subject', 'text', (c) => c.notNull())
      .addColumn('tenant', 'text', (c) => c.notNull())
      .addColumn('host', 'text', (c) => c.notNull())
      .addColumn('made_ms', 'bigint', (c) => c.notNull())
      .addColumn('policies', 'integer', (c) => c.notNull()),
  ],
  ({ schema }) => [
    schema
      .createTable('writes')
      .addColumn('write', 'text', (c) => c.primaryKey())
      .addColumn('export_id', 'integer', (c) => c.notNull())
      .addColumn('token', 'bigint', (c) => c.notNull())
      .addColumn('inode', 'bigint', (c) => c.notNull())
      .addColumn('session', 'text', (c) => c.notNull())
      .addColumn('host', 'text', (c) => c.notNull())
      .addColumn('parent', 'bigint')
      .addColumn('name', 'text')
      .addColumn('attributes', 'text', (c) => c.notNull())
      .addColumn('committed', 'text')
      .addColumn('begun_ms', 'bigint', (c) => c.notNull())
      .addColumn('ended_ms', 'bigint')
      .modifyEnd(sql`without rowid`),
    schema.createIndex('writes_inode').on('writes').columns(['export_id', 'inode']),
    schema.createIndex('writes_place').on('writes').columns(['export_id', 'parent', 'name']),
    schema.createIndex('writes_session').on('writes').column('session'),
    schema.alterTable('exports').addColumn('writes_begun', 'bigint', (c) => c.notNull().defaultTo(0)),
    schema.alterTable('inodes').addColumn('extended', 'text'),
    schema.alterTable('inodes').addColumn('own_attributes', 'integer', (c) => c.notNull().defaultTo(0)),
    schema.alterTable('versions').addColumn('stored_s', 'bigint'),
    schema.alterTable('uploads').addColumn('write', 'text'),
    schema.alterTable('uploads').addColumn('commit', 'text'),
  ],
];

export const INDEX_FORMAT = migrations.length;
