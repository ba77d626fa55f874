/**
 * A file system in memory behind the drivers' contract, for tests. Every node is its inode; contents, timeouts
 * and I/O modes can be changed while it is mounted, and everything it is asked is counted.
 */
import { Errno } from '../../lib/fuse/errno.ts';
import type { NodeId } from '../../lib/base/brand.ts';
import {
  ErrnoError,
  type AttributesReply,
  type DirectoryPlusRecord,
  type DirectoryRecord,
  type DirectorySink,
  type DriverConnection,
  type EntryReply,
  type FileSystemOperations,
  type FileSystemStatistics,
  type OpenReply,
  type RequestContext,
} from '../../lib/fuse/operations.ts';
import type { TreeEntry } from '../conformance/tree.ts';
import { BackedContent, SparseContent } from './memory-content.ts';
import { bytesOf, keyOf, type MemoryNode, MemoryTree, TYPE_BITS } from './memory-tree.ts';
import { MemoryLocks, MemoryWrites } from './memory-writes.ts';

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
const SET_IDS = 0o6000;
/** Operations that are remembered in order. */
const TRACE_MAX = 100_000;

export interface MemoryFsOptions {
  readonly validForMs?: number;
  /** Files are handed to the kernel where it takes them. */
  readonly passthrough?: boolean;
  /** The driver is given `writes` and `locks`. */
  readonly writable?: boolean;
}

export class MemoryFs implements FileSystemOperations {
  connection: DriverConnection | undefined;
  passthrough: boolean;
  disconnections = 0;
  readonly tree: MemoryTree;
  readonly writes: MemoryWrites | undefined;
  readonly locks: MemoryLocks | undefined;
  readonly calls = new Map<string, number>();
  /** What was asked, in order. */
  readonly trace: string[] = [];
  /** Set by a test: replaces the answer of read. */
  onRead: ((path: string, context: RequestContext) => Promise<Uint8Array> | undefined) | undefined;

  constructor(entries: readonly TreeEntry[], options: MemoryFsOptions = {}) {
    this.passthrough = options.passthrough ?? false;
    this.tree = new MemoryTree(entries, { validForMs: options.validForMs ?? 0 });
    if (options.writable !== true) return;
    this.locks = new MemoryLocks();
    this.writes = new MemoryWrites({
      tree: this.tree,
      called: (operation, detail) => this.#called(operation, detail),
      open: (file) => this.#opened(file),
    });
  }

  get held(): ReadonlyMap<NodeId, bigint> {
    return this.tree.held;
  }

  get openFiles(): ReadonlyMap<bigint, MemoryNode> {
    return this.tree.openFiles;
  }

  get openDirectories(): ReadonlyMap<bigint, unknown> {
    return this.tree.openDirectories;
  }

  add(entry: TreeEntry): void {
    this.tree.add(entry);
  }

  /** Closes backing files. */
  dispose(): void {
    this.tree.dispose();
  }

  node(path: string): MemoryNode {
    return this.tree.at(path);
  }

  replace(path: string, content: Buffer): void {
    this.node(path).content = SparseContent.of(content);
  }

  /** Another node takes the place of a name, as when a new version was committed. */
  supersede(path: string, content: Buffer): void {
    this.tree.supersede(path, content);
  }

  remove(path: string): void {
    const { parent, name } = this.node(path);
    if (parent !== undefined) this.tree.detach(parent, name);
  }

  connected(connection: DriverConnection): void {
    this.connection = connection;
  }

  disconnected(): void {
    this.disconnections++;
  }

  async lookup(parent: NodeId, name: Uint8Array, _context: RequestContext): Promise<EntryReply> {
    this.#called('lookup', keyOf(name));
    const directory = this.tree.directory(parent);
    const child = directory.children.get(keyOf(name));
    if (child !== undefined) return this.tree.entry(child);
    const absent = this.tree.attributesOf(directory);
    return { ...absent, node: 0n as NodeId, entryValidForMs: this.tree.validForMs };
  }

  forget(node: NodeId, count: bigint): void {
    this.#called('forget');
    this.tree.forget(node, count);
  }

  async attributes(node: NodeId): Promise<AttributesReply> {
    this.#called('attributes');
    return this.tree.attributesOf(this.tree.get(node));
  }

  async readLink(node: NodeId): Promise<Uint8Array> {
    const { kind, target } = this.tree.get(node);
    if (kind !== 'symlink') throw new ErrnoError(Errno.EINVAL, 'not a symlink');
    return target;
  }

  async access(): Promise<void> {
    this.#called('access');
  }

  async open(node: NodeId, flags: number): Promise<OpenReply> {
    const truncates = (flags & O_TRUNC) !== 0;
    this.#called('open', truncates ? 'truncating' : undefined);
    const file = this.tree.get(node);
    if (file.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
    if (this.writes === undefined && ((flags & O_ACCMODE) !== 0 || truncates))
      throw new ErrnoError(Errno.EROFS, 'read-only');
    if (truncates) this.writes?.truncate(file);
    return this.#opened(file);
  }

  async read(
    handle: bigint,
    range: { readonly offset: number; readonly length: number },
    context: RequestContext,
  ): Promise<Uint8Array> {
    this.#called('read', `${range.offset}+${range.length}`);
    const file = this.tree.file(handle);
    return this.onRead?.(file.name, context) ?? file.content.read(range.offset, range.length);
  }

  async flush(): Promise<void> {
    this.#called('flush');
  }

  release(handle: bigint): void {
    this.#called('release');
    this.tree.close(handle);
  }

  async openDirectory(node: NodeId): Promise<OpenReply> {
    this.#called('openDirectory');
    return { handle: this.tree.openDirectory(this.tree.directory(node)) };
  }

  async readDirectory(handle: bigint, offset: bigint, sink: DirectorySink<DirectoryRecord>): Promise<void> {
    this.#called('readDirectory');
    for (const { record } of this.#records(handle, offset)) if (!sink(record)) return;
  }

  async readDirectoryPlus(
    handle: bigint,
    offset: bigint,
    sink: DirectorySink<DirectoryPlusRecord>,
  ): Promise<void> {
    this.#called('readDirectoryPlus');
    for (const { record, child } of this.#records(handle, offset)) {
      const entry = (): EntryReply | undefined => (child === undefined ? undefined : this.#listed(child));
      if (!sink({ ...record, entry })) return;
    }
  }

  releaseDirectory(handle: bigint): void {
    this.#called('releaseDirectory');
    if (!this.tree.openDirectories.delete(handle)) throw new Error('directory released twice');
  }

  async statistics(): Promise<FileSystemStatistics> {
    this.#called('statistics');
    return {
      // More than 32 bits, as exports over object stores have.
      blocks: 1n << 34n,
      blocksFree: 1n << 33n,
      blocksAvailable: 1n << 33n,
      files: 10_000n,
      filesFree: 9_000n,
      blockBytes: 4096,
      fragmentBytes: 4096,
      nameBytesMax: 255,
    };
  }

  async getExtendedAttribute(node: NodeId, name: string): Promise<Uint8Array> {
    const value = this.tree.get(node).attributes.get(name);
    if (value === undefined) throw new ErrnoError(Errno.ENODATA, 'no such attribute');
    return value;
  }

  async listExtendedAttributes(node: NodeId): Promise<readonly string[]> {
    return [...this.tree.get(node).attributes.keys()];
  }

  async refuseChange(operation: string): Promise<never> {
    this.#called(`change:${operation}`);
    throw new ErrnoError(Errno.EROFS, 'read-only file system');
  }

  #called(operation: string, detail?: string): void {
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1);
    if (this.trace.length < TRACE_MAX)
      this.trace.push(detail === undefined ? operation : `${operation} ${detail}`);
  }

  #opened(file: MemoryNode): OpenReply {
    const handle = this.tree.open(file);
    const isPassed = this.passthrough && this.connection?.abilities.passthrough === true;
    // The kernel's own writes do not take set-ID bits off.
    if (!isPassed || (this.writes !== undefined && (file.mode & SET_IDS) !== 0)) return { handle };
    if (!(file.content instanceof BackedContent)) {
      this.tree.settle(file);
      file.content = new BackedContent(file.content);
      file.stamp = file.content.stamp;
    }
    // A handle that cannot have written need not be flushed.
    const noFlush = this.writes === undefined;
    return { handle, noFlush, backing: { fd: (file.content as BackedContent).fd } };
  }

  /** One that was removed since the listing began has no entry. */
  #listed(child: MemoryNode): EntryReply | undefined {
    return child.links > 0 ? this.tree.entry(child) : undefined;
  }

  *#records(handle: bigint, offset: bigint): Generator<{ record: DirectoryRecord; child?: MemoryNode }> {
    const children = this.tree.openDirectories.get(handle);
    if (children === undefined) throw new Error('listing of an unknown handle');
    for (let index = Number(offset); index < children.length + 2; index++) {
      const [name, child] = children[index - 2] ?? [index === 0 ? '.' : '..'];
      yield {
        record: {
          name: bytesOf(name),
          inode: child?.node ?? 1n,
          type: TYPE_BITS[child?.kind ?? 'directory'] >> 12,
          nextOffset: BigInt(index + 1),
        },
        ...(child === undefined ? {} : { child }),
      };
    }
  }
}
