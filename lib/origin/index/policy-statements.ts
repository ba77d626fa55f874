/** Statements on the history of policies. */
import type { IndexDatabase } from './index-database.ts';
import type { IndexSchema } from './index-schema.ts';

export type PolicyRow = IndexSchema['policies'];

export type PolicyStatements = ReturnType<typeof preparePolicyStatements>;

export function preparePolicyStatements(database: IndexDatabase) {
  return {
    newest: database.prepare<PolicyRow, never>((db) =>
      db.selectFrom('policies').selectAll().orderBy('version', 'desc').limit(1),
    ),
    byVersion: database.prepare<PolicyRow, 'version'>((db, p) =>
      db.selectFrom('policies').selectAll().where('version', '=', p('version')),
    ),
    history: database.prepare<Omit<PolicyRow, 'document'>, 'count'>((db, p) =>
      db
        .selectFrom('policies')
        .select(['version', 'action', 'subject', 'tenant', 'host', 'made_ms', 'policies'])
        .orderBy('version', 'desc')
        .limit(p('count')),
    ),
    insert: database.prepare<unknown, keyof PolicyRow>((db, p) =>
      db.insertInto('policies').values({
        version: p('version'),
        document: p('document'),
        action: p('action'),
        subject: p('subject'),
        tenant: p('tenant'),
        host: p('host'),
        made_ms: p('made_ms'),
        policies: p('policies'),
      }),
    ),
    deleteThrough: database.prepare<unknown, 'version'>((db, p) =>
      db.deleteFrom('policies').where('version', '<=', p('version')),
    ),
  };
}
