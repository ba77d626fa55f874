/** What the origin's lease table is told, what it wants done, and what it shows. */
import type { Epoch, InodeNumber, SessionId } from '../base/brand.ts';
import type { Ancestors } from './ancestors.ts';
import type { ChangedLeasedName, ChangeId } from './change-queue.ts';
import type { RememberedSession, StreamId } from './lease-session.ts';
import type {
  Grant,
  LeaseReference,
  LeaseTiming,
  NameUpdate,
  OriginMessage,
  SatelliteMessage,
  Sequence,
} from './lease.ts';

export type { Ancestors, ChangedLeasedName, ChangeId, RememberedSession, StreamId };

export type LeaseEvent<Inode> =
  /** The origin starts: sessions of its last life, whose leases may still be in use. Once, before all others. */
  | { readonly kind: 'started'; readonly awaited: readonly RememberedSession[] }
  | {
      readonly kind: 'stream-opened';
      readonly stream: StreamId;
      readonly tenant: string;
      readonly address: string;
    }
  | {
      readonly kind: 'message';
      readonly stream: StreamId;
      readonly message: SatelliteMessage;
      /** For a hello: the identity of the session if it begins one, and the places of directories to be reclaimed. */
      readonly hello?: {
        readonly session: SessionId;
        /** By directory; one that is missing is gone. */
        readonly places: ReadonlyMap<InodeNumber, Ancestors>;
      };
    }
  /** By the other side or by the network; also after `close-stream`, where it changes nothing. */
  | { readonly kind: 'stream-broken'; readonly stream: StreamId }
  /** A satellite asks about names of a directory. Answered at once by one `granted`. */
  | { readonly kind: 'grant-wanted'; readonly session: SessionId; readonly ancestors: Ancestors }
  | {
      readonly kind: 'change-wanted';
      readonly change: ChangeId;
      readonly names: readonly ChangedLeasedName[];
      /** Directories that get another place, with their place now. */
      readonly moved: readonly Ancestors[];
      /** Knows of the change and is not asked. */
      readonly by: SessionId | undefined;
    }
  /**
   * Done, failed or given up, in any state: what the names are now, and where the moved directories are now. One that
   * is missing there is gone.
   */
  | {
      readonly kind: 'change-finished';
      readonly change: ChangeId;
      readonly updates: readonly NameUpdate<Inode>[];
      readonly moved: readonly Ancestors[];
    }
  | { readonly kind: 'time-passed' };

/** Why a stream is ended; the first four are the satellite's fault. */
export type CloseReason =
  | 'protocol'
  | 'another-session'
  | 'flood'
  | 'hello-late'
  | 'too-many-sessions'
  | 'superseded'
  | 'expired'
  | 'goodbye';

/** What the driver counts. */
export type LeaseOccurrence = 'resumed' | 'reclaimed' | 'expired' | 'refused' | 'leases-limit' | 'recalled';

export type LeaseEffect<Inode> =
  | { readonly kind: 'send'; readonly stream: StreamId; readonly message: OriginMessage<Inode> }
  | {
      readonly kind: 'close-stream';
      readonly stream: StreamId;
      readonly reason: CloseReason;
      readonly text: string;
    }
  /** Undefined: the answer is to be used once. */
  | { readonly kind: 'granted'; readonly grant: Grant | undefined }
  | { readonly kind: 'change-may-perform'; readonly change: ChangeId }
  /** Nothing waits for it any more. */
  | { readonly kind: 'change-ended'; readonly change: ChangeId }
  /** Durable before any later effect is carried out. `earlier`: a session of the same satellite that it goes on from. */
  | {
      readonly kind: 'remember-session';
      readonly session: RememberedSession;
      readonly earlier: SessionId | undefined;
    }
  | { readonly kind: 'forget-session'; readonly session: SessionId }
  | { readonly kind: 'acknowledged'; readonly afterMs: number }
  | { readonly kind: 'occurred'; readonly what: LeaseOccurrence }
  /** A `time-passed` is wanted then, also if an earlier one is wanted before. */
  | { readonly kind: 'wake-at'; readonly ms: number };

export interface LeaseTableOptions {
  readonly epoch: Epoch;
  readonly timing: LeaseTiming;
  /** How long nothing may have changed below a directory that is granted whole. */
  readonly quietMs: number;
  readonly limits?: Partial<LeaseTableLimits>;
}

export interface LeaseTableLimits {
  readonly sessions: number;
  /** Of one session: leases and directories excluded from them. Beyond it answers are used once. */
  readonly leasesPerSession: number;
  /** Directories a session may have excluded from its subtrees; beyond it all its leases are recalled. */
  readonly excludedPerSession: number;
  /** Directories remembered with the time of their last change. */
  readonly recentDirectories: number;
}

/** For people. */
export interface SessionView {
  readonly session: SessionId;
  readonly tenant: string;
  readonly host: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly connected: boolean;
  readonly openedMs: number;
  readonly expiresMs: number;
  readonly leases: number;
  readonly acknowledgementsOwed: number;
  readonly sequence: Sequence;
}

export interface LeaseView extends LeaseReference {
  readonly session: SessionId;
  readonly host: string;
  readonly sinceMs: number;
}

export type EventOf<Inode, Kind> = Extract<LeaseEvent<Inode>, { readonly kind: Kind }>;
