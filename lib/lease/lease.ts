/**
 * The contract of the lease protocol: what satellite and origin tell each other on their stream, and the figures that
 * both sides count by. The machines (`lease-table.ts` for the origin, `lease-client.ts` for the satellite) are pure:
 * they read no clock, no socket and no random number. The protocol and its invariants are in README.md.
 */
import type { Epoch, InodeNumber, SessionId } from '../base/brand.ts';

/**
 * Of withdraw, update and recall messages of one session: 1, 2, 3 …. An answer under a lease says the number of the last
 * message that had been sent when the lease was granted, so that the receiver can order the two.
 */
export type Sequence = number;

/** A lease on one directory's names, or on those of all directories at and below it. */
export interface LeaseReference {
  readonly directory: InodeNumber;
  readonly subtree: boolean;
}

/** One name under a lease. The root directory is the empty name in itself. */
export interface LeasedName {
  readonly directory: InodeNumber;
  readonly name: string;
  /** The inode stays what it is; only its attributes are meant. */
  readonly attributesOnly: boolean;
}

/** Covers an answer; what was sent after `sequence` may be about a later state than the answer. */
export interface Grant {
  readonly sequence: Sequence;
  readonly lease: LeaseReference;
}

export interface NameUpdate<Inode> {
  readonly name: LeasedName;
  /** Undefined: gone. */
  readonly inode: Inode | undefined;
}

export type SatelliteMessage =
  | {
      readonly kind: 'hello';
      readonly host: string;
      readonly labels: Readonly<Record<string, string>>;
      /** An earlier session, to be resumed (same epoch, nothing missed) or reclaimed (earlier epoch). */
      readonly earlier:
        | {
            readonly session: SessionId;
            readonly epoch: Epoch;
            readonly lastSequence: Sequence;
            readonly reclaim: readonly LeaseReference[];
          }
        | undefined;
    }
  | { readonly kind: 'heartbeat'; readonly number: number }
  | {
      readonly kind: 'acknowledgement';
      /** Of a withdraw or recall; 0: of a welcome that did not resume, nothing of the earlier session is used now. */
      readonly sequence: Sequence;
      /** Directories of the message that the satellite asks to be recalled, as it knows nothing at or below them. */
      readonly released: readonly InodeNumber[];
    }
  /** Asks for a recall of these directories. */
  | { readonly kind: 'release'; readonly directories: readonly InodeNumber[] }
  /** Nothing is used any more. */
  | { readonly kind: 'goodbye' };

export type OriginMessage<Inode> =
  | {
      readonly kind: 'welcome';
      readonly session: SessionId;
      readonly epoch: Epoch;
      /** From when the hello was sent. */
      readonly termMs: number;
      readonly heartbeatMs: number;
      readonly resumed: boolean;
      readonly reclaimed: readonly LeaseReference[];
    }
  | {
      readonly kind: 'heartbeat-answer';
      readonly number: number;
      /** From when that heartbeat was sent. */
      readonly termMs: number;
    }
  | {
      readonly kind: 'withdraw';
      readonly sequence: Sequence;
      readonly names: readonly LeasedName[];
      /** Directories that get another place: all that is known at and below them is dropped. */
      readonly moved: readonly InodeNumber[];
    }
  | {
      readonly kind: 'update';
      readonly sequence: Sequence;
      readonly names: readonly NameUpdate<Inode>[];
    }
  | {
      readonly kind: 'recall';
      readonly sequence: Sequence;
      /**
       * What is known of the directory (`subtree`: and below it) is dropped, whatever lease covered it; acknowledged
       * like a withdraw. Empty: all of the session.
       */
      readonly leases: readonly LeaseReference[];
    };

export interface LeaseTiming {
  /** How long a lease lasts unless it is renewed. */
  readonly termMs: number;
  readonly heartbeatMs: number;
  /** By which part two clocks may run at different rates: the satellite counts so much less, the origin so much more. */
  readonly clockRateError: number;
}

export const LEASE_TIMING_DEFAULT: LeaseTiming = { termMs: 20_000, heartbeatMs: 5_000, clockRateError: 0.01 };
