/**
 * The one document of policies and its history, in the index.
 *
 * Guarantees: a document is read whole before it is kept, by the same rules that the command line has; a change is one
 * durable transaction and one more version, also a deletion and a rollback; whoever listens is told after the version
 * is durable. The oldest versions go once there are `VERSIONS_KEPT_MAX`.
 */
import type { Clock } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import { nearMiss } from '../../config/near-miss.ts';
import type { Finding } from '../../policy/document-source.ts';
import { PolicyError } from '../../policy/policy.ts';
import {
  documentForExport,
  EMPTY_DOCUMENT,
  parsePolicyDocument,
  type PolicyDocument,
  withoutPolicy,
} from '../../policy/policy-document.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { IndexDatabase } from '../index/index-database.ts';
import { OriginError } from '../origin.ts';
import {
  type PolicyRow,
  type PolicyStatements,
  preparePolicyStatements,
} from '../index/policy-statements.ts';

const VERSIONS_KEPT_MAX = 1_000;

export interface Author {
  readonly tenant: string;
  readonly host: string;
}

export type PolicyVersion = Omit<PolicyRow, 'document'>;

export interface PolicyChange {
  readonly version: PolicyVersion;
  readonly unchanged: boolean;
  readonly warnings: readonly Finding[];
}

/** What a version stands for before there is any. */
const NO_VERSION: PolicyRow = {
  ...{ version: 0, document: EMPTY_DOCUMENT, action: 'apply', subject: '', tenant: '', host: '' },
  ...{ made_ms: 0, policies: 0 },
};

export class PolicyStore {
  readonly #database: IndexDatabase;
  readonly #statements: PolicyStatements;
  readonly #exportNames: readonly string[];
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #newest: PolicyRow;
  #document: PolicyDocument;
  /** What satellites get, by export. */
  readonly #sets = new Map<string, string>();

  constructor(options: {
    readonly database: IndexDatabase;
    readonly exportNames: readonly string[];
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#database = options.database;
    this.#statements = preparePolicyStatements(options.database);
    this.#exportNames = options.exportNames;
    this.#clock = options.clock;
    this.#newest = this.#statements.newest.get({}) ?? NO_VERSION;
    this.#document = readKept(this.#newest, options.logger);
  }

  /** The version that holds, with what of it is about an export. */
  setOf(exportName: string): { readonly version: number; readonly document: string } {
    let document = this.#sets.get(exportName);
    if (document === undefined) {
      document = documentForExport(this.#document.written, exportName);
      this.#sets.set(exportName, document);
    }
    return { version: this.#newest.version, document };
  }

  /** Calls `changed` after each change until the returned function is called. */
  listen(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  /** @throws OriginError not-found */
  get(version?: number): PolicyRow {
    if (version === undefined || version === this.#newest.version) return this.#newest;
    const row = this.#statements.byVersion.get({ version });
    if (row !== undefined) return row;
    throw new OriginError('not-found', `there is no version ${version} of the policies`, {
      hint: 'perigee policy history shows those that are kept',
    });
  }

  /** Newest first. */
  history(versionsMax: number): { readonly versions: readonly PolicyVersion[]; readonly more: boolean } {
    const rows = this.#statements.history.all({ count: versionsMax + 1 });
    return { versions: rows.slice(0, versionsMax), more: rows.length > versionsMax };
  }

  /** What `apply` would answer; changes nothing. @throws OriginError invalid */
  review(text: string): PolicyChange {
    const { warnings } = this.#read(text);
    return { version: this.#newest, unchanged: text === this.#newest.document, warnings };
  }

  /** @throws OriginError invalid */
  apply(text: string, author: Author): PolicyChange {
    return this.#change(text, { action: 'apply', subject: '', ...author });
  }

  /** @throws OriginError not-found, invalid */
  delete(name: string, author: Author): PolicyChange {
    const text = travelling(() => withoutPolicy(this.#newest.document, name));
    return this.#change(text, { action: 'delete', subject: name, ...author });
  }

  /** @throws OriginError not-found; invalid where this release refuses what an earlier one took */
  rollback(version: number, author: Author): PolicyChange {
    const text = version === 0 ? EMPTY_DOCUMENT : this.get(version).document;
    return this.#change(text, { action: 'rollback', subject: String(version), ...author });
  }

  #change(text: string, how: Pick<PolicyRow, 'action' | 'subject' | 'tenant' | 'host'>): PolicyChange {
    const document = this.#read(text);
    const { warnings } = document;
    if (text === this.#newest.document) return { version: this.#newest, unchanged: true, warnings };
    const row: PolicyRow = {
      ...how,
      version: this.#newest.version + 1,
      document: text,
      made_ms: this.#clock.wallMs(),
      policies: document.policies.length,
    };
    this.#database.durably(() => {
      this.#statements.insert.run({ ...row });
      this.#statements.deleteThrough.run({ version: row.version - VERSIONS_KEPT_MAX });
    });
    this.#newest = row;
    this.#document = document;
    this.#sets.clear();
    for (const changed of [...this.#listeners]) changed();
    return { version: row, unchanged: false, warnings };
  }

  #read(text: string): PolicyDocument {
    const document = travelling(() => parsePolicyDocument(text));
    const unknown = document.policies.flatMap(({ name, match }): Finding[] => {
      if (match.export === undefined || this.#exportNames.includes(match.export)) return [];
      const meant = nearMiss(match.export, this.#exportNames);
      const hint =
        meant === undefined ? `it serves ${this.#exportNames.join(', ')}` : `did you mean ${meant}?`;
      const message = `${name}: this origin serves no export ${match.export}`;
      return [{ line: 0, column: 0, message, hint }];
    });
    return { ...document, warnings: [...document.warnings, ...unknown] };
  }
}

/** A document that an earlier release took and this one refuses must not keep the origin down. */
function readKept({ version, document }: PolicyRow, logger: Logger): PolicyDocument {
  try {
    return parsePolicyDocument(document);
  } catch (error) {
    logger.error(
      { version },
      `the policies that are kept are refused by this release, none hold: ${describeError(error)}`,
    );
    return parsePolicyDocument(EMPTY_DOCUMENT);
  }
}

/** As the caller is told. */
function travelling<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    const code = error.code === 'document' ? 'invalid' : 'not-found';
    throw new OriginError(code, error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
}
