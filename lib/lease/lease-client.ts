/**
 * The satellite's side of the lease protocol: one session with one export of one origin, over streams that come and go.
 *
 * Pure: `step(event, nowMs)` changes the machine and says what the driver is to do, in order. `nowMs` is a clock that
 * counts suspension. It guarantees
 * - names may be used only before `validUntilMs`, which counts from when a message was sent, less the clock rate error;
 * - when the term ends, a message is missing, or the origin no longer knows the session, everything is dropped first
 *   and the origin is told of it only after the driver has said so;
 * - an acknowledgement is sent only after the driver has said that it is applied, the kernel included, and is sent
 *   again after a resumption unless an answer shows that it arrived.
 * What is held and which answers may be kept is the name cache's business (README.md, rules 1 and 2).
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { LeaseReference, OriginMessage, SatelliteMessage, Sequence } from './lease.ts';

type OfKind<M, Kind> = Extract<M, { readonly kind: Kind }>;

export type LeaseClientEvent<Inode> =
  | { readonly kind: 'start' }
  /** The stream that was asked for is open. */
  | {
      readonly kind: 'connected';
      readonly host: string;
      readonly labels: Readonly<Record<string, string>>;
      /** Leases held, which an origin that was restarted is asked for. */
      readonly held: readonly LeaseReference[];
    }
  /** The stream ended or could not be opened. */
  | { readonly kind: 'stream-broken'; readonly jitter: number }
  | { readonly kind: 'message'; readonly message: OriginMessage<Inode> }
  /** Nothing, the kernel included, serves what this withdraw or recall named. */
  | { readonly kind: 'applied'; readonly sequence: Sequence; readonly released: readonly InodeNumber[] }
  /** The last `drop` is done, the kernel included. */
  | { readonly kind: 'dropped' }
  /** The driver would rather not be told of these directories any more. The origin recalls them. */
  | { readonly kind: 'released'; readonly directories: readonly InodeNumber[] }
  | { readonly kind: 'time-passed' }
  /** The mount has ended: nothing is served any more. */
  | { readonly kind: 'closing' };

/** `expired`: the term has ended. `gap`: messages are missing. `new-session`: the origin did not resume. */
export type DropReason = 'expired' | 'gap' | 'new-session';

export type LeaseClientEffect<Inode> =
  | { readonly kind: 'open-stream' }
  /** The driver need not report it broken. */
  | { readonly kind: 'end-stream'; readonly reason: string }
  | { readonly kind: 'send'; readonly message: SatelliteMessage }
  /** To be forgotten at once; then the kernel's; then `applied`. */
  | { readonly kind: 'apply-withdraw'; readonly message: OfKind<OriginMessage<Inode>, 'withdraw'> }
  | { readonly kind: 'apply-recall'; readonly message: OfKind<OriginMessage<Inode>, 'recall'> }
  | { readonly kind: 'apply-update'; readonly message: OfKind<OriginMessage<Inode>, 'update'> }
  /**
   * Everything is to be forgotten at once, then the kernel's; then `dropped`. What `keep` covers may stay, but no
   * absence and no complete listing of it may, and its sequences begin again at 0.
   */
  | { readonly kind: 'drop'; readonly reason: DropReason; readonly keep: readonly LeaseReference[] }
  /** Names the session in questions from now on; undefined: answers are used once. */
  | { readonly kind: 'session'; readonly session: SessionId | undefined }
  | { readonly kind: 'set-term'; readonly validUntilMs: number }
  /** A `time-passed` is wanted then; replaces the last one. */
  | { readonly kind: 'wake-at'; readonly ms: number };

/** `waiting`: until the next attempt. `connecting`: a stream is being opened. `greeting`: a hello is unanswered. */
export type LeaseClientState =
  | { readonly kind: 'waiting'; readonly retryAtMs: number }
  | { readonly kind: 'connecting' }
  | { readonly kind: 'greeting'; readonly sentMs: number }
  | { readonly kind: 'live' }
  | { readonly kind: 'closed' };

export interface LeaseClientOptions {
  readonly clockRateError: number;
}
