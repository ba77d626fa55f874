/**
 * The only way by which something that satellites may know is changed: see lib/lease/README.md.
 *
 * `run` makes names unknown to every holder, waits until that is so, performs the change, and tells holders what the
 * names are now. Changes of the same name exclude each other, and lookups of a name under change wait for its end, but
 * for names that changes share.
 */
import type { SessionId } from '../../base/brand.ts';

export interface ChangedName {
  readonly directory: number;
  /** Empty: the root itself. */
  readonly name: string;
  /** The inode stays what it is; only its attributes change. */
  readonly attributesOnly?: boolean;
  /**
   * Other changes that share the name may perform at the same time, and lookups need not wait, but their answers are
   * used once: for the times of a directory, which each change of its entries moves.
   */
  readonly isShared?: boolean;
}

export interface Change {
  readonly names: readonly ChangedName[];
  /** Directories that get another place. */
  readonly moved?: readonly number[];
  /** The satellite that makes the change has withdrawn the names from itself; it is told of the end like all others. */
  readonly by?: SessionId | undefined;
}

export interface ChangeGate {
  /**
   * Performs a change while no satellite uses the names. What `perform` throws is thrown after holders were told that
   * the names are as before. Waits at most one lease term for holders; not interrupted once `perform` has begun.
   *
   * @throws OriginError, and the reason of the signal while it waits
   */
  run<T>(change: Change, perform: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Satellites may still use what an earlier life of the origin has told them and this one does not know: absences. */
  readonly isGrace: boolean;
  /** Undefined: no change of this name is under way. Else resolves at its end. */
  underWay(directory: number, name: string): Promise<void> | undefined;
  /** Names of a directory that are under change. */
  withdrawnNames(directory: number): readonly string[];
}
