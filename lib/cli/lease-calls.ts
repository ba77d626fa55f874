/** What the commands about leases ask an origin. `lib/daemon` implements it. */
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';

export interface LeaseCallsOptions {
  readonly origin: string;
  readonly credentials: ClientCredentialFiles | undefined;
}

export interface SessionInfo {
  /** The first digits of its identity. */
  readonly session: string;
  readonly export: string;
  readonly host: string;
  readonly tenant: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Its stream is up. */
  readonly connected: boolean;
  readonly ageMs: number;
  readonly expiresInMs: number;
  readonly leases: number;
  readonly acknowledgementsOwed: number;
  readonly sequence: number;
}

export interface SessionList {
  readonly sessions: readonly SessionInfo[];
  /** Sessions of the origin's last life that changes wait for, and for how long at most. */
  readonly sessionsAwaited: number;
  readonly graceLeftMs: number;
}

export interface LeaseInfo {
  /** Of the directory, without a slash in front; empty for the root. */
  readonly path: string;
  /** Covers all below it too. */
  readonly subtree: boolean;
  readonly session: string;
  readonly host: string;
  readonly ageMs: number;
}

export interface LeaseList {
  readonly leases: readonly LeaseInfo[];
  /** There are others. */
  readonly more: boolean;
}

/** Of one export, or of all of the origin. @throws RpcError */
export interface LeaseCalls {
  sessions(exportName: string | undefined): Promise<SessionList>;
  /** Those that concern a path: at or below it, or covering it from above. */
  leases(of: {
    readonly exportName: string | undefined;
    readonly path: string;
    readonly leasesMax: number;
  }): Promise<LeaseList>;
  close(): Promise<void>;
}
