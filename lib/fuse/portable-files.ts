/**
 * The open files of a portable mount: a handle of the file system is a 64-bit number of its own choice, libfuse's has 31
 * bits and is never 0. The node of an open file is held until its release.
 */
import type { NodeId } from '../base/brand.ts';
import { Errno } from './errno.ts';
import { ErrnoError } from './operations.ts';

/** Handles are given out in a circle below this; so many are never open at a time. */
const HANDLE_LIMIT = 2 ** 30;

export interface OpenFile {
  readonly handle: bigint;
  readonly node: NodeId;
}

export class PortableFiles {
  readonly #files = new Map<number, OpenFile>();
  #next = 1;

  add(file: OpenFile): number {
    while (this.#files.has(this.#next)) this.#next = (this.#next % HANDLE_LIMIT) + 1;
    this.#files.set(this.#next, file);
    return this.#next;
  }

  find(handle: number): OpenFile | undefined {
    return this.#files.get(handle);
  }

  /** @throws ErrnoError EBADF */
  get(handle: number): OpenFile {
    const file = this.#files.get(handle);
    if (file === undefined) throw new ErrnoError(Errno.EBADF, 'unknown file handle');
    return file;
  }

  /** @throws ErrnoError EBADF */
  remove(handle: number): OpenFile {
    const file = this.get(handle);
    this.#files.delete(handle);
    this.#next = (handle % HANDLE_LIMIT) + 1;
    return file;
  }
}
