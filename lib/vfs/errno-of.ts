/**
 * The one mapping of what lower layers raise to what programs see. Total: anything unknown is EIO.
 * The table of meanings: ETIMEDOUT, the origin or the object store did not answer within the bound; ESTALE, the
 * version is gone; EIO, integrity or a fault of ours; ENOSPC, no room that could be freed.
 */
import { CacheError, type CacheErrorCode } from '../../cache/block-cache.ts';
import { Errno } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import { NamespaceError, type NamespaceErrorCode } from '../namespace/namespace.ts';
import { TierError, type TierErrorCode } from '../tiers/tier.ts';
import { VfsError, type VfsErrorCode } from './vfs-error.ts';

const ofNamespace: Record<NamespaceErrorCode, number> = {
  'not-found': Errno.ENOENT,
  'not-directory': Errno.ENOTDIR,
  denied: Errno.EACCES,
  timeout: Errno.ETIMEDOUT,
  unavailable: Errno.ETIMEDOUT,
  protocol: Errno.EIO,
  exists: Errno.EEXIST,
  'not-empty': Errno.ENOTEMPTY,
  'is-directory': Errno.EISDIR,
  busy: Errno.EBUSY,
  fenced: Errno.ESTALE,
  'upload-gone': Errno.EIO,
  invalid: Errno.EINVAL,
  'no-space': Errno.ENOSPC,
  'read-only': Errno.EROFS,
};

const ofTier: Record<TierErrorCode, number> = {
  stale: Errno.ESTALE,
  unavailable: Errno.ETIMEDOUT,
  denied: Errno.EACCES,
  timeout: Errno.ETIMEDOUT,
  corrupt: Errno.EIO,
  sink: Errno.EIO,
  'no-space': Errno.ENOSPC,
  closed: Errno.EIO,
};

const ofCache: Record<CacheErrorCode, number> = {
  locked: Errno.EIO,
  format: Errno.EIO,
  foreign: Errno.EIO,
  'too-small': Errno.ENOSPC,
  disk: Errno.EIO,
  'not-cached': Errno.EIO,
  'no-space': Errno.ENOSPC,
  'too-large': Errno.EFBIG,
  unsupported: Errno.EOPNOTSUPP,
  journal: Errno.EIO,
  closed: Errno.EIO,
};

const ofVfs: Record<VfsErrorCode, number> = {
  interrupted: Errno.EINTR,
  timeout: Errno.ETIMEDOUT,
  'short-read': Errno.EIO,
};

export function errnoOf(error: unknown): number {
  if (error instanceof ErrnoError) return error.errno;
  if (error instanceof NamespaceError) return ofNamespace[error.code];
  if (error instanceof TierError) return ofTier[error.code];
  if (error instanceof CacheError) return ofCache[error.code];
  if (error instanceof VfsError) return ofVfs[error.code];
  if (error instanceof Error && error.name === 'AbortError') return Errno.EINTR;
  return Errno.EIO;
}
