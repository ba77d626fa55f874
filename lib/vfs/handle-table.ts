/**
 * What the kernel's handles stand for. Handle numbers are never used twice; a number that is not here is EBADF.
 * Files and directories share one table, so that a handle of the wrong kind is caught.
 */
import type { WorkingCopy } from '../../cache/working-copy.ts';
import { Errno } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import type { DirectoryStream } from './directory-stream.ts';
import type { Node } from './node-table.ts';

export interface FileHandle {
  readonly kind: 'file';
  readonly node: Node;
  /** What it reads and writes, if that is no version. */
  readonly copy?: WorkingCopy;
  readonly isWriter: boolean;
}

interface DirectoryHandle {
  readonly kind: 'directory';
  readonly node: Node;
  readonly stream: DirectoryStream;
}

export type Handle = FileHandle | DirectoryHandle;

export class HandleTable {
  readonly #handles = new Map<bigint, Handle>();
  #last = 0n;
  #files = 0;

  /** Open handles of files. */
  get files(): number {
    return this.#files;
  }

  add(handle: Handle): bigint {
    this.#last += 1n;
    this.#handles.set(this.#last, handle);
    if (handle.kind === 'file') this.#files += 1;
    return this.#last;
  }

  file(id: bigint): FileHandle {
    const handle = this.#handles.get(id);
    if (handle?.kind !== 'file') throw new ErrnoError(Errno.EBADF, `no open file has handle ${id}`);
    return handle;
  }

  directory(id: bigint): DirectoryHandle {
    const handle = this.#handles.get(id);
    if (handle?.kind !== 'directory') {
      throw new ErrnoError(Errno.EBADF, `no open directory has handle ${id}`);
    }
    return handle;
  }

  remove(id: bigint): Handle | undefined {
    const handle = this.#handles.get(id);
    if (handle === undefined) return undefined;
    this.#handles.delete(id);
    if (handle.kind === 'file') this.#files -= 1;
    return handle;
  }

  ids(): bigint[] {
    return [...this.#handles.keys()];
  }
}
