/** Every query of the index, built once from the typed schema. */
import type { Kysely } from 'kysely';
import type { IndexDatabase } from './index-database.ts';
import type { BareInodeRow, InodeRow, VersionColumns } from './index-rows.ts';
import type { DirectoryState, IndexSchema } from './index-schema.ts';

export type IndexStatements = ReturnType<typeof prepareStatements>;

const INODE_COLUMNS = [
  'i.inode',
  'i.parent',
  'i.name',
  'i.kind',
  'i.mode',
  'i.uid',
  'i.gid',
  'i.modified_s',
  'i.modified_ns',
  'i.changed_s',
  'i.changed_ns',
  'i.version_id',
  'i.target',
  'i.resolved',
  'i.listed',
  'i.extended',
  'i.own_attributes',
] as const;

const VERSION_COLUMNS = [
  'v.object_key',
  'v.object_version',
  'v.entity_tag',
  'v.size_bytes',
  'v.stored_s',
] as const;

function inodesWithVersions(db: Kysely<IndexSchema>) {
  return db
    .selectFrom('inodes as i')
    .leftJoin('versions as v', (join) =>
      join
        .onRef('v.export_id', '=', 'i.export_id')
        .onRef('v.inode', '=', 'i.inode')
        .onRef('v.version_id', '=', 'i.version_id'),
    )
    .select([...INODE_COLUMNS, ...VERSION_COLUMNS]);
}

type AttributeName =
  | 'mode'
  | 'uid'
  | 'gid'
  | 'modified_s'
  | 'modified_ns'
  | 'changed_s'
  | 'changed_ns'
  | 'extended'
  | 'own_attributes';

export function prepareStatements(database: IndexDatabase) {
  const attributes = <T>(p: (name: AttributeName) => T) => ({
    mode: p('mode'),
    uid: p('uid'),
    gid: p('gid'),
    modified_s: p('modified_s'),
    modified_ns: p('modified_ns'),
    changed_s: p('changed_s'),
    changed_ns: p('changed_ns'),
    extended: p('extended'),
    own_attributes: p('own_attributes'),
  });
  return {
    meta: database.prepare<{ epoch: number; inodes_reserved: number }, never>((db) =>
      db.selectFrom('meta').select(['epoch', 'inodes_reserved']),
    ),
    setEpoch: database.prepare<unknown, 'epoch'>((db, p) =>
      db.updateTable('meta').set({ epoch: p('epoch') }),
    ),
    setReserved: database.prepare<unknown, 'reserved'>((db, p) =>
      db.updateTable('meta').set({ inodes_reserved: p('reserved') }),
    ),
    exportByName: database.prepare<{ export_id: number; public_id: string; identity: string }, 'name'>(
      (db, p) =>
        db.selectFrom('exports').select(['export_id', 'public_id', 'identity']).where('name', '=', p('name')),
    ),
    lastExport: database.prepare<{ last: number | null }, never>((db) =>
      db.selectFrom('exports').select((e) => e.fn.max('export_id').as('last')),
    ),
    lastRemoval: database.prepare<{ last: number | null }, never>((db) =>
      db.selectFrom('removals').select((e) => e.fn.max('export_id').as('last')),
    ),
    insertExport: database.prepare<unknown, 'export' | 'public_id' | 'name' | 'identity' | 'created_ms'>(
      (db, p) =>
        db.insertInto('exports').values({
          export_id: p('export'),
          public_id: p('public_id'),
          name: p('name'),
          identity: p('identity'),
          created_ms: p('created_ms'),
          writes_begun: 0,
        }),
    ),
    deleteExport: database.prepare<unknown, 'export'>((db, p) =>
      db.deleteFrom('exports').where('export_id', '=', p('export')),
    ),
    totals: database.prepare<{ inodes: number; bytes: number | null }, 'export'>((db, p) =>
      db
        .selectFrom('inodes as i')
        .leftJoin('versions as v', (join) =>
          join.onRef('v.export_id', '=', 'i.export_id').onRef('v.inode', '=', 'i.inode'),
        )
        .select((e) => [
          e.fn.countAll<number>().as('inodes'),
          e.fn.sum<number | null>('v.size_bytes').as('bytes'),
        ])
        .where('i.export_id', '=', p('export')),
    ),
    listedDirectories: database.prepare<{ listed: number }, 'export'>((db, p) =>
      db
        .selectFrom('directories')
        .select((e) => e.fn.countAll<number>().as('listed'))
        .where('export_id', '=', p('export'))
        .where('state', '=', 'listed'),
    ),

    // One inode is read by two statements: a join of two rows takes ten times as long to set up as to run.
    inode: database.prepare<BareInodeRow, 'export' | 'inode'>((db, p) =>
      db
        .selectFrom('inodes as i')
        .select(INODE_COLUMNS)
        .where('i.export_id', '=', p('export'))
        .where('i.inode', '=', p('inode')),
    ),
    child: database.prepare<BareInodeRow, 'export' | 'parent' | 'name'>((db, p) =>
      db
        .selectFrom('inodes as i')
        .select(INODE_COLUMNS)
        .where('i.export_id', '=', p('export'))
        .where('i.parent', '=', p('parent'))
        .where('i.name', '=', p('name')),
    ),
    version: database.prepare<VersionColumns, 'export' | 'inode' | 'version'>((db, p) =>
      db
        .selectFrom('versions as v')
        .select(VERSION_COLUMNS)
        .where('v.export_id', '=', p('export'))
        .where('v.inode', '=', p('inode'))
        .where('v.version_id', '=', p('version')),
    ),
    children: database.prepare<InodeRow, 'export' | 'parent' | 'after' | 'limit'>((db, p) =>
      inodesWithVersions(db)
        .where('i.export_id', '=', p('export'))
        .where('i.parent', '=', p('parent'))
        .where('i.name', '>', p('after'))
        .orderBy('i.name')
        .limit(p('limit')),
    ),
    childrenBelow: database.prepare<InodeRow, 'export' | 'parent' | 'after' | 'below' | 'limit'>((db, p) =>
      inodesWithVersions(db)
        .where('i.export_id', '=', p('export'))
        .where('i.parent', '=', p('parent'))
        .where('i.name', '>', p('after'))
        .where('i.name', '<', p('below'))
        .orderBy('i.name')
        .limit(p('limit')),
    ),
    unlisted: database.prepare<{ name: string }, 'export' | 'parent' | 'limit'>((db, p) =>
      db
        .selectFrom('inodes')
        .select('name')
        .where('export_id', '=', p('export'))
        .where('parent', '=', p('parent'))
        .where('listed', '=', 0)
        .limit(p('limit')),
    ),
    insertInode: database.prepare<
      unknown,
      | AttributeName
      | 'export'
      | 'inode'
      | 'parent'
      | 'name'
      | 'kind'
      | 'version_id'
      | 'target'
      | 'resolved'
      | 'listed'
    >((db, p) =>
      db.insertInto('inodes').values({
        export_id: p('export'),
        inode: p('inode'),
        parent: p('parent'),
        name: p('name'),
        kind: p('kind'),
        ...attributes(p),
        version_id: p('version_id'),
        target: p('target'),
        resolved: p('resolved'),
        listed: p('listed'),
      }),
    ),
    updateInode: database.prepare<
      unknown,
      AttributeName | 'export' | 'inode' | 'kind' | 'version_id' | 'target' | 'resolved' | 'listed'
    >((db, p) =>
      db
        .updateTable('inodes')
        .set({
          kind: p('kind'),
          ...attributes(p),
          version_id: p('version_id'),
          target: p('target'),
          resolved: p('resolved'),
          listed: p('listed'),
        })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    setListed: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db
        .updateTable('inodes')
        .set({ listed: 1 })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    moveInode: database.prepare<unknown, 'export' | 'inode' | 'parent' | 'name'>((db, p) =>
      db
        .updateTable('inodes')
        // As good as met by a listing of its new parent, which cannot meet it before it is moved in the store.
        .set({ parent: p('parent'), name: p('name'), listed: 1 })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    setTimes: database.prepare<unknown, 'export' | 'inode' | 'seconds' | 'nanoseconds'>((db, p) =>
      db
        .updateTable('inodes')
        .set({
          modified_s: p('seconds'),
          modified_ns: p('nanoseconds'),
          changed_s: p('seconds'),
          changed_ns: p('nanoseconds'),
        })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    setAttributes: database.prepare<unknown, AttributeName | 'export' | 'inode'>((db, p) =>
      db
        .updateTable('inodes')
        .set(attributes(p))
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    deleteInode: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db.deleteFrom('inodes').where('export_id', '=', p('export')).where('inode', '=', p('inode')),
    ),

    insertVersion: database.prepare<
      unknown,
      | 'export'
      | 'inode'
      | 'version_id'
      | 'object_key'
      | 'object_version'
      | 'entity_tag'
      | 'size_bytes'
      | 'stored_s'
    >((db, p) =>
      db
        .insertInto('versions')
        .values({
          export_id: p('export'),
          inode: p('inode'),
          version_id: p('version_id'),
          object_key: p('object_key'),
          object_version: p('object_version'),
          entity_tag: p('entity_tag'),
          size_bytes: p('size_bytes'),
          stored_s: p('stored_s'),
        })
        .onConflict((conflict) =>
          conflict.columns(['export_id', 'inode', 'version_id']).doUpdateSet({
            object_key: p('object_key'),
            object_version: p('object_version'),
            entity_tag: p('entity_tag'),
            stored_s: p('stored_s'),
          }),
        ),
    ),
    deleteVersions: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db.deleteFrom('versions').where('export_id', '=', p('export')).where('inode', '=', p('inode')),
    ),

    directory: database.prepare<
      { inode: number; key_prefix: string; state: DirectoryState; listed_through: string | null },
      'export' | 'inode'
    >((db, p) =>
      db
        .selectFrom('directories')
        .select(['inode', 'key_prefix', 'state', 'listed_through'])
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    insertDirectory: database.prepare<unknown, 'export' | 'inode' | 'key_prefix'>((db, p) =>
      db.insertInto('directories').values({
        export_id: p('export'),
        inode: p('inode'),
        key_prefix: p('key_prefix'),
        state: 'unlisted',
        listed_through: null,
      }),
    ),
    setDirectory: database.prepare<unknown, 'export' | 'inode' | 'state' | 'listed_through'>((db, p) =>
      db
        .updateTable('directories')
        .set({ state: p('state'), listed_through: p('listed_through') })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    setKeyPrefix: database.prepare<unknown, 'export' | 'inode' | 'key_prefix'>((db, p) =>
      db
        .updateTable('directories')
        .set({ key_prefix: p('key_prefix') })
        .where('export_id', '=', p('export'))
        .where('inode', '=', p('inode')),
    ),
    deleteDirectory: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db.deleteFrom('directories').where('export_id', '=', p('export')).where('inode', '=', p('inode')),
    ),

    insertRemoval: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db.insertInto('removals').values({ export_id: p('export'), inode: p('inode') }),
    ),
    nextRemoval: database.prepare<{ export_id: number; inode: number }, never>((db) =>
      db.selectFrom('removals').select(['export_id', 'inode']).limit(1),
    ),
    deleteRemoval: database.prepare<unknown, 'export' | 'inode'>((db, p) =>
      db.deleteFrom('removals').where('export_id', '=', p('export')).where('inode', '=', p('inode')),
    ),
  };
}
