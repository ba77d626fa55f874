/**
 * What the commands need from the processes they start and talk to. `lib/daemon` implements it; commands only
 * parse, call and print, so they can be tested without a mount.
 */
import type { AccessLists, Role } from '../config/access-lists.ts';
import type { MountControl, MountStatus, Unconverged } from '../control/control.ts';
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';
import type { ServerCredentialFiles } from '../rpc/server-credentials.ts';
import type { LeaseCalls, LeaseCallsOptions } from './lease-calls.ts';
import type { PolicyCalls, PolicyCallsOptions } from './policy-calls.ts';

export type { MountControl, MountStatus, Unconverged };

export interface ExportOptions {
  readonly name: string;
  /** `file:///dir` or `s3://bucket/prefix?endpoint=…&region=…&pathStyle=true`. */
  readonly url: string;
}

export interface OriginOptions {
  /** Where notifications of object stores are taken. */
  readonly events?: {
    readonly listen: { readonly host: string; readonly port: number };
    readonly tokenFile: string | undefined;
  };
  readonly dataDirectory: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly exports: readonly ExportOptions[];
  /** Accept calls from other hosts in plain text. */
  readonly insecure: boolean;
  readonly credentials: ServerCredentialFiles;
  readonly access: AccessLists;
  readonly leases: { readonly termMs: number; readonly quietMs: number };
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
  readonly logLevel: LogLevel;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface MountOptions {
  /** `host:port` of the origin. */
  readonly origin: string;
  readonly exportName: string;
  readonly mountpoint: string;
  readonly cacheDirectory: string;
  readonly cacheBytes: number;
  readonly blockBytes: number;
  readonly wholeOnOpenBytes: number;
  /** How long operations on names wait for an origin that cannot be reached. */
  readonly partitionWaitMs: number;
  readonly driver: 'kernel' | 'portable';
  readonly readOnly: boolean;
  /** Where no policy says otherwise. */
  readonly writeMode: 'through' | 'back';
  /** What may be acknowledged and not yet in the object store. */
  readonly writeBackBytesMax: number;
  readonly allowOther: boolean;
  /** Threads that fetch from object stores. */
  readonly fetchThreads: number;
  readonly labels: Readonly<Record<string, string>>;
  /** What it shows the origin. */
  readonly credentials?: ClientCredentialFiles | undefined;
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
  readonly logLevel: LogLevel;
  /** Absent: standard error in the foreground, a file beside the cache in the background. */
  readonly logFile: string | undefined;
}

export interface UpOptions {
  /** Absent: a fresh temporary directory that is removed at the end. */
  readonly directory: string | undefined;
  /** Absent: a folder in `directory`. */
  readonly mountpoint: string | undefined;
  readonly sample: boolean;
  readonly cacheBytes: number;
  readonly driver: 'kernel' | 'portable';
}

/** A live process in the foreground: wait for `ended`, or `stop` it. */
export interface Running {
  /** For people: where it answers. */
  readonly address: string;
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

export interface UpRunning extends Running {
  readonly mountpoint: string;
  status(): Promise<MountStatus>;
}

export type FindingLevel = 'ok' | 'note' | 'warning' | 'failure';

/** One line of `perigee doctor`. */
export interface Finding {
  readonly level: FindingLevel;
  readonly subject: string;
  readonly text: string;
  /** What to do about it. */
  readonly hint?: string;
}

export interface DoctorOptions {
  readonly origin: string | undefined;
  readonly credentials?: ClientCredentialFiles | undefined;
  readonly exportName: string | undefined;
  readonly cacheDirectory: string | undefined;
  /** Directly at a store, without an origin. */
  readonly storeUrl: string | undefined;
  /** Walk at most this many keys for names that cannot be files. */
  readonly keysMax: number;
}

export interface IssueOptions {
  /** Where the certificates are. */
  readonly directory: string;
  /** Make the authority as well; there must be none. */
  readonly isFirst: boolean;
  /** Names and addresses of the origin; none: no certificate for it. */
  readonly hosts: readonly string[];
  readonly clients: readonly { readonly host: string; readonly role: Role; readonly file: string }[];
  /** Of the clients. */
  readonly tenant: string;
  readonly validMs: number;
  /** Exchange what is there. */
  readonly replace: boolean;
}

export interface PutAttributes {
  readonly mode?: number;
  readonly modifiedNs?: bigint;
  /** A symlink, without content. */
  readonly target?: string;
}

export interface PutFile {
  readonly attributes: PutAttributes;
  /** None: of no bytes. */
  readonly content?: AsyncIterable<Uint8Array>;
  /** Called as parts arrive in the store. */
  readonly onSent: (bytes: number) => void;
}

export interface PutResult {
  readonly path: string;
  readonly sizeBytes: number;
  readonly version: string | undefined;
}

/** How far a refresh has come. */
export interface RefreshFigures {
  readonly directories: number;
  readonly names: number;
  readonly added: number;
  readonly changed: number;
  readonly gone: number;
}

/** Changes of one export; paths are relative to its root. */
export interface ExportChanges {
  put(path: string, file: PutFile): Promise<PutResult>;
  /** Returns how many names are gone. */
  remove(path: string, options: { readonly recursive: boolean }): Promise<number>;
  rename(from: string, to: string, options: { readonly noReplace: boolean }): Promise<void>;
  makeDirectory(
    path: string,
    options: { readonly parents: boolean; readonly attributes: PutAttributes },
  ): Promise<void>;
  refresh(path: string, options: { readonly recursive: boolean }): AsyncIterable<RefreshFigures>;
  close(): Promise<void>;
}

export interface ChangesOptions {
  readonly origin: string;
  readonly exportName: string;
  readonly credentials: ClientCredentialFiles | undefined;
}

export interface SalvageReport {
  readonly files: number;
  readonly bytes: number;
  /** Files that the journal lists and that are not there, or are shorter than it says. */
  readonly losses: number;
  /** What of the journal cannot be read, in words. */
  readonly problems: readonly string[];
  /** The file that says what each copy is. */
  readonly list: string;
}

export interface Runtime {
  readonly version: string;
  origin(options: OriginOptions): Promise<Running>;
  /** Returns the files that were made. */
  issueCertificates(options: IssueOptions): Promise<readonly string[]>;
  /** In this process, until stopped. */
  mountForeground(options: MountOptions): Promise<Running>;
  /** In a process of its own; resolves when the mount answers, rejects with the daemon's own error. */
  mountBackground(options: MountOptions): Promise<{ readonly pid: number }>;
  up(options: UpOptions): Promise<UpRunning>;
  /** Mountpoints of live mounts of this host. */
  mounts(): Promise<readonly string[]>;
  /** @throws PerigeeError with a hint if nothing of ours is mounted there. */
  control(mountpoint: string): Promise<MountControl>;
  /** For a mount whose daemon is gone: detaches it. */
  forceUnmount(mountpoint: string): Promise<void>;
  changes(options: ChangesOptions): Promise<ExportChanges>;
  policies(options: PolicyCallsOptions): Promise<PolicyCalls>;
  leases(options: LeaseCallsOptions): Promise<LeaseCalls>;
  /** Copies what writers left in a cache directory that no mount is using. */
  salvageCache(options: { readonly cacheDirectory: string; readonly to: string }): Promise<SalvageReport>;
  doctor(options: DoctorOptions): AsyncIterable<Finding>;
}
