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
 * - `busy`: another satellite has the write of this file, and did not end it within the bound
 * - `fenced`: this write has ended, or another satellite has taken the file over: its token is stale
 * - `upload-gone`: the upload was given up, or its place in the store was taken: the bytes are to be sent anew
 * - `no-space`: the store is full, or the attributes of a file are
 * - `read-only`: the export takes no changes
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
  | 'unsupported'
  | 'busy'
  | 'fenced'
  | 'upload-gone'
  | 'no-space'
  | 'read-only';

export class OriginError extends PerigeeError<OriginErrorCode> {
  override readonly layer = 'origin';
}

export interface ExportConfiguration {
  /** Letters, digits, `.`, `_`, `-`; at most 64; begins with a letter or digit. */
  readonly name: string;
  /**
   * The store's URL. The origin's own parameters (README.md) are taken out before a store sees it.
   */
  readonly url: string;
}
