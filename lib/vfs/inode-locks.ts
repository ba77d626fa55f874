/**
 * Locks between programs of this host, by inode: one file can have several nodes at a time, and the kernel's own locks
 * of them would not see each other. Other hosts do not see them.
 */
import type { NodeId } from '../base/brand.ts';
import { Errno } from '../fuse/errno.ts';
import { FileLocks } from '../fuse/file-locks.ts';
import { ErrnoError, type RequestContext } from '../fuse/operations.ts';
import type {
  HeldLock,
  LockFamily,
  LockOperations,
  LockRange,
  LockRequest,
} from '../fuse/write-operations.ts';
import type { NodeTable } from './node-table.ts';

export class InodeLocks implements LockOperations {
  readonly #locks = new FileLocks();
  readonly #nodes: NodeTable;

  constructor(nodes: NodeTable) {
    this.#nodes = nodes;
  }

  async test(id: NodeId, lock: LockRequest): Promise<HeldLock | undefined> {
    return this.#locks.test(this.#inode(id), lock);
  }

  async take(
    id: NodeId,
    lock: LockRequest & { readonly wait: boolean },
    { signal }: RequestContext,
  ): Promise<void> {
    return this.#locks.take(this.#inode(id), lock, signal);
  }

  giveBack(id: NodeId, range: LockRange & { readonly family: LockFamily; readonly owner: bigint }): void {
    const node = this.#nodes.get(id);
    if (node !== undefined) this.#locks.giveBack(node.inode, range);
  }

  #inode(id: NodeId): bigint {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new ErrnoError(Errno.ESTALE, `no node ${id}`);
    return node.inode;
  }
}
