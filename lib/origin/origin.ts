/**
 * The contract of the origin: how it is configured, and how it refuses.
 *
 * The origin is the authority for names, attributes and versions of its exports. It answers over RPC only
 * (lib/rpc/proto/origin.proto); block bytes never pass through it.
 */
import { PerigeeError } from '../base/errors.ts';

/**
 * At start:
 * - `foreign`: the data directory is not empty and not an origin's
 * - `format`: its format is unknown to this release
 * - `locked`: it belongs to another running origin
 * - `index`: the index cannot be read or written; the cause has the system's error
 *
 * In an answer to a call:
 * - `not-found`: no such export or inode
 * - `not-directory`: a child of something that has none
 * - `is-directory`, `exists`, `not-empty`: what stands where a change wants to put or take something
 * - `invalid`: the request makes no sense
 * - `denied`: the store refuses the origin
 * - `timeout`: the store did not answer within the bound
 * - `unavailable`: the store cannot be reached, or asks us to slow down
 * - `unsupported`: the satellite speaks another protocol
 */
export type OriginErrorCode =
  | 'foreign'
  | 'format'
  | 'locked'
  | 'index'
  | 'not-found'
  | 'not-directory'
  | 'is-directory'
  | 'exists'
  | 'not-empty'
  | 'invalid'
  | 'denied'
  | 'timeout'
  | 'unavailable'
  | 'unsupported';

export class OriginError extends PerigeeError<OriginErrorCode> {
  override readonly layer = 'origin';
}

export interface ExportConfiguration {
  /** Letters, digits, `.`, `_`, `-`; at most 64; begins with a letter or digit. */
  readonly name: string;
  /**
   * The store's URL. Parameters `mode`, `dirMode` (octal), `uid`, `gid` and `attributes` (`list` or `head`) are the
   * origin's own and are taken out before a store sees it.
   */
  readonly url: string;
}
