/** The durable table of sessions: whom the next life of the origin has to wait for. */
import type { SessionId } from '../../base/brand.ts';
import type { RememberedSession } from '../../lease/lease-table-events.ts';
import type { IndexDatabase } from './index-database.ts';

export class SessionRows {
  readonly #database: IndexDatabase;
  readonly #exportId: number;
  readonly #statements: ReturnType<typeof prepareSessionStatements>;

  constructor(database: IndexDatabase, exportId: number) {
    this.#database = database;
    this.#exportId = exportId;
    this.#statements = prepareSessionStatements(database);
  }

  all(): RememberedSession[] {
    return this.#statements.all.all({ export: this.#exportId }).map(({ session, tenant, host, term_ms }) => ({
      session: session as SessionId,
      tenant,
      host,
      termMs: term_ms,
    }));
  }

  /** On the disk when it returns: a session that is served and forgotten would be changed behind its back. */
  remember({ session, tenant, host, termMs }: RememberedSession, wallMs: number): void {
    const values = { session, tenant, host, term_ms: termMs, opened_ms: Math.round(wallMs) };
    this.#database.durably(() => this.#statements.insert.run({ export: this.#exportId, ...values }));
  }

  /** Need not be on the disk: one that comes back is waited for once more. */
  forget(session: SessionId): void {
    this.#statements.delete.run({ session });
  }
}

function prepareSessionStatements(database: IndexDatabase) {
  return {
    all: database.prepare<{ session: string; tenant: string; host: string; term_ms: number }, 'export'>(
      (db, p) =>
        db
          .selectFrom('sessions')
          .select(['session', 'tenant', 'host', 'term_ms'])
          .where('export_id', '=', p('export')),
    ),
    insert: database.prepare<unknown, 'export' | 'session' | 'tenant' | 'host' | 'term_ms' | 'opened_ms'>(
      (db, p) =>
        db.insertInto('sessions').values({
          session: p('session'),
          export_id: p('export'),
          host: p('host'),
          tenant: p('tenant'),
          opened_ms: p('opened_ms'),
          term_ms: p('term_ms'),
        }),
    ),
    delete: database.prepare<unknown, 'session'>((db, p) =>
      db.deleteFrom('sessions').where('session', '=', p('session')),
    ),
  };
}
