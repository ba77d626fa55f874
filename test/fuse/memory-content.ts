/**
 * The bytes of a file of `MemoryFs`: in memory, page by page, so that a hole costs nothing; or in a temporary file,
 * which the kernel can be handed. A file moves from the first to the second when it is handed over, and stays there.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { Errno } from '../../lib/fuse/errno.ts';
import { ErrnoError } from '../../lib/fuse/operations.ts';
import type { AllocateMode } from '../../lib/fuse/write-operations.ts';

const PAGE = 4096;

export interface AllocateRange {
  readonly offset: number;
  readonly length: number;
  readonly mode: AllocateMode;
}

export interface FileContent {
  readonly size: number;
  /** Changes with each write, also with those that were not made here. */
  readonly stamp: bigint;
  read(offset: number, length: number): Buffer;
  write(offset: number, bytes: Uint8Array): void;
  truncate(size: number): void;
  allocate(range: AllocateRange): void;
  /** Undefined: beyond the end, or no data up to it. */
  seek(offset: number, kind: 'data' | 'hole'): number | undefined;
  close(): void;
}

/** Pages that are not there are holes. */
export class SparseContent implements FileContent {
  readonly #pages = new Map<number, Buffer>();
  #size = 0;
  stamp = 0n;

  static of(bytes: Uint8Array): SparseContent {
    const content = new SparseContent();
    content.write(0, bytes);
    return content;
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.#size - offset)));
    this.#each(offset, bytes.length, ({ page, at, from, count }) => {
      this.#pages.get(page)?.copy(bytes, from, at, at + count);
    });
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.stamp++;
    this.#each(offset, bytes.length, ({ page, at, from, count }) => {
      let into = this.#pages.get(page);
      if (into === undefined) this.#pages.set(page, (into = Buffer.alloc(PAGE)));
      into.set(bytes.subarray(from, from + count), at);
    });
    if (bytes.length > 0) this.#size = Math.max(this.#size, offset + bytes.length);
  }

  truncate(size: number): void {
    this.stamp++;
    if (size < this.#size) this.#clear(size, Math.ceil(this.#size / PAGE) * PAGE);
    this.#size = size;
  }

  allocate({ offset, length, mode }: AllocateRange): void {
    this.stamp++;
    if (mode === 'punch' || mode.startsWith('zero')) this.#clear(offset, offset + length);
    if (mode === 'reserve' || mode === 'zero') this.#size = Math.max(this.#size, offset + length);
  }

  seek(offset: number, kind: 'data' | 'hole'): number | undefined {
    if (offset >= this.#size) return undefined;
    const first = Math.floor(offset / PAGE);
    let page = first;
    if (kind === 'hole') while (this.#pages.has(page)) page++;
    else page = Math.min(...[...this.#pages.keys()].filter((each) => each >= first));
    const found = Math.max(offset, page * PAGE);
    if (found < this.#size) return found;
    return kind === 'hole' ? this.#size : undefined;
  }

  close(): void {
    this.#pages.clear();
  }

  /** Zeros; whole pages become holes. */
  #clear(start: number, end: number): void {
    for (const page of [...this.#pages.keys()]) {
      const [first, last] = [Math.max(start, page * PAGE), Math.min(end, (page + 1) * PAGE)];
      if (first >= last) continue;
      if (last - first === PAGE) this.#pages.delete(page);
      else this.#pages.get(page)?.fill(0, first - page * PAGE, last - page * PAGE);
    }
  }

  #each(
    offset: number,
    length: number,
    use: (part: { page: number; at: number; from: number; count: number }) => void,
  ): void {
    for (let from = 0; from < length;) {
      const at = (offset + from) % PAGE;
      const count = Math.min(PAGE - at, length - from);
      use({ page: Math.floor((offset + from) / PAGE), at, from, count });
      from += count;
    }
  }
}

const libc = koffi.load(null);
const fallocate = libc.func('int fallocate(int fd, int mode, int64 offset, int64 length)');
const lseek = libc.func('int64 lseek(int fd, int64 offset, int whence)');
const FALLOCATE_MODES: Readonly<Record<AllocateMode, number>> = {
  reserve: 0,
  'reserve-beyond': 1,
  punch: 3,
  zero: 16,
  'zero-beyond': 17,
};
const WHENCE = { data: 3, hole: 4 } as const;

/** A temporary file without a name: nothing is left behind however the process ends. */
export class BackedContent implements FileContent {
  readonly fd: number;

  constructor(content: FileContent) {
    const directory = mkdtempSync(join(tmpdir(), 'memory-fs-'));
    this.fd = openSync(join(directory, 'blob'), 'wx+');
    rmSync(directory, { recursive: true });
    ftruncateSync(this.fd, content.size);
    for (let at = content.seek(0, 'data'); at !== undefined; at = content.seek(at, 'data')) {
      const end = Math.min(content.seek(at, 'hole') ?? content.size, at + 1024 * PAGE);
      writeSync(this.fd, content.read(at, end - at), 0, end - at, at);
      at = end;
    }
  }

  get size(): number {
    return fstatSync(this.fd).size;
  }

  get stamp(): bigint {
    return fstatSync(this.fd, { bigint: true }).mtimeNs;
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.size - offset)));
    return bytes.subarray(0, readSync(this.fd, bytes, 0, bytes.length, offset));
  }

  write(offset: number, bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length;)
      from += writeSync(this.fd, bytes, from, bytes.length - from, offset + from);
  }

  truncate(size: number): void {
    ftruncateSync(this.fd, size);
  }

  allocate({ offset, length, mode }: AllocateRange): void {
    if (fallocate(this.fd, FALLOCATE_MODES[mode], offset, length) !== 0)
      throw new ErrnoError(koffi.errno(), 'fallocate of the backing file');
  }

  seek(offset: number, kind: 'data' | 'hole'): number | undefined {
    const found = Number(lseek(this.fd, offset, WHENCE[kind]));
    if (found >= 0) return found;
    if (koffi.errno() === Errno.ENXIO) return undefined;
    throw new ErrnoError(koffi.errno(), 'lseek of the backing file');
  }

  close(): void {
    closeSync(this.fd);
  }
}
