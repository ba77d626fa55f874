/** What the commands about policies ask an origin. `lib/daemon` implements it. */
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';
import type { Finding } from '../policy/document-source.ts';

export interface PolicyCallsOptions {
  readonly origin: string;
  readonly credentials: ClientCredentialFiles | undefined;
}

export interface PolicyVersionInfo {
  /** 0: there never was a document. */
  readonly version: number;
  readonly action: string;
  /** What was deleted, or the version that was gone back to. */
  readonly subject: string;
  readonly tenant: string;
  readonly host: string;
  /** Milliseconds since 1970. */
  readonly madeMs: number;
  readonly policies: number;
}

export interface PolicyChangeInfo {
  readonly version: PolicyVersionInfo;
  /** The document was there already. */
  readonly unchanged: boolean;
  readonly warnings: readonly Finding[];
}

export interface ListedFile {
  readonly path: string;
  readonly sizeBytes: number;
}

export interface FoundPath {
  readonly kind: 'file' | 'directory' | 'symlink';
  readonly sizeBytes: number;
}

/** @throws RpcError, NamespaceError */
export interface PolicyCalls {
  /** Without a version the document that holds. */
  document(version?: number): Promise<{ readonly version: PolicyVersionInfo; readonly text: string }>;
  /** Newest first. */
  history(
    versionsMax: number,
  ): Promise<{ readonly versions: readonly PolicyVersionInfo[]; readonly more: boolean }>;
  apply(text: string, options: { readonly dryRun: boolean }): Promise<PolicyChangeInfo>;
  delete(name: string): Promise<PolicyChangeInfo>;
  rollback(version: number): Promise<PolicyChangeInfo>;
  exportNames(): Promise<readonly string[]>;
  /** Files whose path begins with the prefix, a page at a time. */
  files(exportName: string, prefix: string): AsyncIterable<readonly ListedFile[]>;
  find(exportName: string, path: string): Promise<FoundPath | undefined>;
  close(): Promise<void>;
}
