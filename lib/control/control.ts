/**
 * The contract of the admin socket: what a running mount answers to the commands of its own host.
 *
 * Guarantees: only the user who runs the mount (and root) can connect; both ends validate what they receive;
 * every call ends within its deadline with a result or a `ControlError`.
 */
import type { CachedVersion, CacheStat, EvictReport, VerifyReport } from '../../cache/block-cache.ts';
import type { DirtyFile, WriteBackStat } from '../../cache/working-copy.ts';
import { PerigeeError } from '../base/errors.ts';
import type { JobInfo, JobRequest, OutcomeBytes, Recording } from '../prefetch/prefetch.ts';

/**
 * - `not-running`: nothing of ours answers for that mount point
 * - `in-use`: another live process answers for it
 * - `access-denied`: the socket belongs to another user
 * - `protocol`: the other end speaks another version, or not this protocol at all
 * - `timeout`: no answer within the deadline
 * - `closed`: the process ended before it answered
 * - `remote`: the mount itself refused; the message and the hint are its own
 * - `disk`: the run directory cannot be used; the cause has the errno
 */
export type ControlErrorCode =
  'not-running' | 'in-use' | 'access-denied' | 'protocol' | 'timeout' | 'closed' | 'remote' | 'disk';

export class ControlError extends PerigeeError<ControlErrorCode> {
  override readonly layer = 'control';
}

/** One running mount as `perigee status` shows it. */
export interface MountStatus {
  readonly mountpoint: string;
  readonly pid: number;
  readonly version: string;
  readonly origin: string;
  readonly exportName: string;
  /** What its owner calls it. */
  readonly labels: Readonly<Record<string, string>>;
  readonly driver: 'kernel' | 'portable';
  readonly passthrough: boolean;
  readonly readOnly: boolean;
  readonly upSeconds: number;
  readonly originReachable: boolean;
  /** What lets names be used without asking the origin. */
  readonly leases: {
    /** `live`: the stream is up. `reconnecting`: the term still runs. `lost`: names are asked for one by one. */
    readonly state: 'live' | 'reconnecting' | 'lost';
    /** The first digits of the session's identity. */
    readonly session?: string | undefined;
    readonly termLeftMs: number;
    readonly leases: number;
    readonly names: number;
    readonly directories: number;
    /** Directories of which every name is known. */
    readonly directoriesComplete: number;
  };
  readonly store: string;
  readonly openFiles: number;
  readonly nodes: number;
  readonly reads: {
    readonly passthroughOpens: number;
    readonly servedOpens: number;
    readonly servedBytes: number;
  };
  readonly cache: CacheStat;
  /** Absent: nothing is written there. */
  readonly writeBack?: WriteBackStat | undefined;
  readonly memoryBytes: number;
}

/** Files at or below a path of which there is something that no version has. */
export interface Unconverged {
  readonly files: number;
  readonly bytes: number;
  /** Of them in the object store, though not committed. */
  readonly sentBytes: number;
  /** Of them open and not closed yet: only their writers can make versions of them. */
  readonly openFiles: number;
  readonly failing: number;
  readonly oldestMs: number;
  /** The longest waiting first; not all, if they are very many. */
  readonly list: readonly (Omit<DirtyFile, 'inode' | 'isDirty' | 'failure'> & {
    readonly failure?: string | undefined;
  })[];
}

/** What policies mean for one path, and what the tier has of it. */
export interface PolicyExplanation {
  readonly exportName: string;
  /** Relative to the root of the export; of a directory with a slash behind it. */
  readonly path: string;
  /** `absent`: nothing is there; it is explained as a file of unknown size would be. */
  readonly kind: 'file' | 'directory' | 'symlink' | 'absent';
  readonly sizeBytes?: number | undefined;
  /** Of the document that is in force; 0: there is none. */
  readonly documentVersion: number;
  readonly host: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly settings: readonly {
    readonly name: string;
    /** Null: none, or as the satellite was started. */
    readonly value: string | number | boolean | null | readonly string[];
    readonly policy?: string | undefined;
    readonly reason: string;
  }[];
  readonly policies: readonly { readonly name: string; readonly outcome: string }[];
  /** Of the file in the tier; absent where the tier was not asked. */
  readonly cachedBytes?: number | undefined;
}

/**
 * Commands that a running mount answers over its admin socket. A path is relative to the root of the export,
 * without a slash at either end; undefined means the whole export.
 */
export interface MountControl {
  status(): Promise<MountStatus>;
  cacheList(path: string | undefined): Promise<readonly CachedVersion[]>;
  /** Pins or unpins every cached file at or below a path; returns how many. */
  cachePin(path: string, pinned: boolean): Promise<number>;
  cacheEvict(path: string | undefined): Promise<EvictReport>;
  /** The signal is aborted when nobody waits for the report any more. */
  cacheVerify(path: string | undefined, options?: { readonly signal?: AbortSignal }): Promise<VerifyReport>;
  policyExplain(path: string | undefined): Promise<PolicyExplanation>;
  unconverged(path: string | undefined): Promise<Unconverged>;
  /** Resolves when all that was closed at or below a path before the call is a version. */
  flush(path: string | undefined, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Resolves when the job has begun. @throws what a manifest or the number of jobs refuses */
  prefetchStart(request: JobRequest): Promise<JobInfo>;
  /** Jobs under way and the last ones that ended, oldest first; and what became of what was fetched, by policy. */
  prefetchList(): Promise<{
    readonly jobs: readonly JobInfo[];
    readonly outcomes: Readonly<Record<string, OutcomeBytes>>;
  }>;
  prefetchCancel(id: string): Promise<JobInfo>;
  /** Notes what is opened at and below a path until `recordStop`; returns the name of the recording. */
  recordStart(path: string): Promise<string>;
  recordStop(id: string): Promise<Recording>;
  /** Asks the daemon to unmount and end; resolves when the mount is gone. Refused without `force` while programs use it. */
  unmount(options: { readonly force: boolean }, bounds?: { readonly signal?: AbortSignal }): Promise<void>;
}
