/** What the file system itself raises while it waits for others. */
import { PerigeeError } from '../base/errors.ts';

/**
 * - `interrupted`: the program was interrupted, or the mount ended, while we waited
 * - `timeout`: what we waited for did not come within the bound
 * - `short-read`: the cache answered with another number of bytes than asked for
 */
export type VfsErrorCode = 'interrupted' | 'timeout' | 'short-read';

export class VfsError extends PerigeeError<VfsErrorCode> {
  override readonly layer = 'vfs';
}
