import t from 'tap';
import { CacheError } from '../../cache/block-cache.ts';
import { InvariantError, PerigeeError } from '../../lib/base/errors.ts';
import { Errno, errnoName } from '../../lib/fuse/errno.ts';
import { ErrnoError } from '../../lib/fuse/operations.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { errnoOf } from '../../lib/vfs/errno-of.ts';
import { VfsError } from '../../lib/vfs/vfs-error.ts';

t.test('errno', async (t) => {
  const cases: [unknown, keyof typeof Errno][] = [
    [new NamespaceError('not-found', ''), 'ENOENT'],
    [new NamespaceError('not-directory', ''), 'ENOTDIR'],
    [new NamespaceError('denied', ''), 'EACCES'],
    [new NamespaceError('timeout', ''), 'ETIMEDOUT'],
    [new NamespaceError('unavailable', ''), 'ETIMEDOUT'],
    [new NamespaceError('protocol', ''), 'EIO'],
    [new NamespaceError('exists', ''), 'EEXIST'],
    [new NamespaceError('not-empty', ''), 'ENOTEMPTY'],
    [new NamespaceError('is-directory', ''), 'EISDIR'],
    [new NamespaceError('busy', ''), 'EBUSY'],
    [new NamespaceError('fenced', ''), 'ESTALE'],
    [new NamespaceError('invalid', ''), 'EINVAL'],
    [new NamespaceError('no-space', ''), 'ENOSPC'],
    [new NamespaceError('read-only', ''), 'EROFS'],
    [new TierError('stale', ''), 'ESTALE'],
    [new TierError('unavailable', ''), 'ETIMEDOUT'],
    [new TierError('timeout', ''), 'ETIMEDOUT'],
    [new TierError('denied', ''), 'EACCES'],
    [new TierError('corrupt', ''), 'EIO'],
    [new CacheError('no-space', ''), 'ENOSPC'],
    [new CacheError('disk', ''), 'EIO'],
    [new VfsError('interrupted', ''), 'EINTR'],
    [new VfsError('timeout', ''), 'ETIMEDOUT'],
    [new VfsError('short-read', ''), 'EIO'],
    [new ErrnoError(Errno.EROFS, ''), 'EROFS'],
    [new InvariantError(''), 'EIO'],
    [new DOMException('stop', 'AbortError'), 'EINTR'],
    [new Error('anything'), 'EIO'],
    ['not even an error', 'EIO'],
    [undefined, 'EIO'],
  ];
  for (const [error, name] of cases) {
    const of = error instanceof PerigeeError ? `${error.layer} ${error.code}` : typeof error;
    t.equal(errnoName(errnoOf(error)), name, `of ${of}`);
  }
});
