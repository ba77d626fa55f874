/**
 * A file system in memory behind the drivers' contract, for tests. Every node is its inode; contents, timeouts
 * and I/O modes can be changed while it is mounted, and everything it is asked is counted.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT_NODE, type NodeId } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
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
import { contentOf, type TreeEntry } from '../conformance/tree.ts';

const TYPE_BITS = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const O_ACCMODE = 3;

interface MemoryNode {
  readonly node: NodeId;
  readonly kind: keyof typeof TYPE_BITS;
  readonly name: string;
  parent: MemoryNode | undefined;
  mode: number;
  modifiedNs: bigint;
  content: Buffer;
  target: string;
  readonly children: Map<string, MemoryNode>;
  readonly attributes: Map<string, Buffer>;
}

export interface MemoryFsOptions {
  readonly validForMs?: number;
  /** Files are handed to the kernel where it takes them. */
  readonly passthrough?: boolean;
}

export class MemoryFs implements FileSystemOperations {
  connection: DriverConnection | undefined;
  validForMs: number;
  passthrough: boolean;
  disconnections = 0;
  /** Lookups that the driver holds of each node, as this side counts them. */
  readonly held = new Map<NodeId, bigint>();
  readonly calls = new Map<string, number>();
  readonly openFiles = new Map<bigint, MemoryNode>();
  readonly openDirectories = new Map<bigint, readonly MemoryNode[]>();
  /** Set by a test: replaces the answer of read. */
  onRead: ((path: string, context: RequestContext) => Promise<Uint8Array> | undefined) | undefined;
  readonly #nodes = new Map<NodeId, MemoryNode>();
  readonly #backing = new Map<NodeId, number>();
  #nextNode = 1n;
  #nextHandle = 1n;

  constructor(entries: readonly TreeEntry[], options: MemoryFsOptions = {}) {
    this.validForMs = options.validForMs ?? 0;
    this.passthrough = options.passthrough ?? false;
    this.#add({ path: '', kind: 'directory', mode: 0o755, modifiedMs: 0 });
    for (const entry of entries) this.add(entry);
  }

  add(entry: TreeEntry): void {
    this.#add(entry);
  }

  /** Closes backing files. */
  dispose(): void {
    for (const fd of this.#backing.values()) closeSync(fd);
    this.#backing.clear();
  }

  node(path: string): MemoryNode {
    let at = this.#get(ROOT_NODE);
    for (const part of path.split('/').filter(Boolean)) {
      const child = at.children.get(part);
      if (child === undefined) throw new Error(`no ${path}`);
      at = child;
    }
    return at;
  }

  replace(path: string, content: Buffer): void {
    this.node(path).content = content;
  }

  /** Another node takes the place of a name, as when a new version was committed. */
  supersede(path: string, content: Buffer): void {
    const old = this.node(path);
    const fresh: MemoryNode = { ...old, node: this.#nextNode++ as NodeId, content };
    this.#nodes.set(fresh.node, fresh);
    old.parent?.children.set(old.name, fresh);
  }

  remove(path: string): void {
    const old = this.node(path);
    old.parent?.children.delete(old.name);
  }

  connected(connection: DriverConnection): void {
    this.connection = connection;
  }

  disconnected(): void {
    this.disconnections++;
  }

  async lookup(parent: NodeId, name: Uint8Array, _context: RequestContext): Promise<EntryReply> {
    this.#called('lookup');
    const directory = this.#get(parent);
    if (directory.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    const child = directory.children.get(Buffer.from(name).toString());
    if (child === undefined) {
      const absent = this.#attributesOf(directory);
      return { ...absent, node: 0n as NodeId, entryValidForMs: this.validForMs };
    }
    return this.#entry(child);
  }

  forget(node: NodeId, count: bigint): void {
    this.#called('forget');
    const left = (this.held.get(node) ?? 0n) - count;
    if (left < 0n) throw new Error('forgot more than was looked up');
    if (left === 0n) this.held.delete(node);
    else this.held.set(node, left);
  }

  async attributes(node: NodeId): Promise<AttributesReply> {
    this.#called('attributes');
    return this.#attributesOf(this.#get(node));
  }

  async readLink(node: NodeId): Promise<Uint8Array> {
    const { kind, target } = this.#get(node);
    if (kind !== 'symlink') throw new ErrnoError(Errno.EINVAL, 'not a symlink');
    return Buffer.from(target);
  }

  async access(): Promise<void> {
    this.#called('access');
  }

  async open(node: NodeId, flags: number): Promise<OpenReply> {
    this.#called('open');
    const file = this.#get(node);
    if (file.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
    if ((flags & O_ACCMODE) !== 0) throw new ErrnoError(Errno.EROFS, 'read-only');
    const handle = this.#nextHandle++;
    this.openFiles.set(handle, file);
    if (!this.passthrough || this.connection?.abilities.passthrough !== true) return { handle };
    return { handle, noFlush: true, backing: { fd: this.#backingOf(file) } };
  }

  async read(
    handle: bigint,
    range: { readonly offset: number; readonly length: number },
    context: RequestContext,
  ): Promise<Uint8Array> {
    this.#called('read');
    const file = this.openFiles.get(handle);
    if (file === undefined) throw new Error('read of an unknown handle');
    return (
      this.onRead?.(file.name, context) ?? file.content.subarray(range.offset, range.offset + range.length)
    );
  }

  async flush(): Promise<void> {
    this.#called('flush');
  }

  release(handle: bigint): void {
    this.#called('release');
    if (!this.openFiles.delete(handle)) throw new Error('released twice');
  }

  async openDirectory(node: NodeId): Promise<OpenReply> {
    this.#called('openDirectory');
    const directory = this.#get(node);
    if (directory.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    const handle = this.#nextHandle++;
    this.openDirectories.set(handle, [...directory.children.values()]);
    return { handle };
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
      const entry = (): EntryReply | undefined => (child === undefined ? undefined : this.#entry(child));
      if (!sink({ ...record, entry })) return;
    }
  }

  releaseDirectory(handle: bigint): void {
    this.#called('releaseDirectory');
    if (!this.openDirectories.delete(handle)) throw new Error('directory released twice');
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
    const value = this.#get(node).attributes.get(name);
    if (value === undefined) throw new ErrnoError(Errno.ENODATA, 'no such attribute');
    return value;
  }

  async listExtendedAttributes(node: NodeId): Promise<readonly string[]> {
    return [...this.#get(node).attributes.keys()];
  }

  async refuseChange(operation: string): Promise<never> {
    this.#called(`change:${operation}`);
    throw new ErrnoError(Errno.EROFS, 'read-only file system');
  }

  #called(operation: string): void {
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1);
  }

  #get(node: NodeId): MemoryNode {
    const found = this.#nodes.get(node);
    if (found === undefined) throw new ErrnoError(Errno.ESTALE, 'unknown node');
    return found;
  }

  #add(entry: TreeEntry): void {
    const cut = entry.path.lastIndexOf('/');
    const parent = entry.path === '' ? undefined : this.node(entry.path.slice(0, Math.max(cut, 0)));
    const added: MemoryNode = {
      node: this.#nextNode++ as NodeId,
      kind: entry.kind,
      name: entry.path.slice(cut + 1),
      parent,
      mode: entry.mode,
      modifiedNs: BigInt(entry.modifiedMs) * 1_000_000n,
      content: entry.kind === 'file' ? contentOf(entry) : Buffer.alloc(0),
      target: entry.target ?? '',
      children: new Map(),
      attributes: new Map(entry.kind === 'file' ? [['user.perigee.test', Buffer.from(entry.path)]] : []),
    };
    this.#nodes.set(added.node, added);
    parent?.children.set(added.name, added);
  }

  #entry(child: MemoryNode): EntryReply {
    this.held.set(child.node, (this.held.get(child.node) ?? 0n) + 1n);
    return { ...this.#attributesOf(child), node: child.node, entryValidForMs: this.validForMs };
  }

  #attributesOf(node: MemoryNode): AttributesReply {
    const children = [...node.children.values()].filter(({ kind }) => kind === 'directory').length;
    return {
      validForMs: this.validForMs,
      attributes: {
        inode: node.node,
        sizeBytes: node.kind === 'symlink' ? Buffer.byteLength(node.target) : node.content.length,
        modifiedNs: node.modifiedNs,
        accessedNs: node.modifiedNs,
        changedNs: node.modifiedNs,
        mode: TYPE_BITS[node.kind] | node.mode,
        links: node.kind === 'directory' ? 2 + children : 1,
        uid: 0,
        gid: 0,
        device: 0,
        blockBytes: 1024 * 1024,
      },
    };
  }

  *#records(handle: bigint, offset: bigint): Generator<{ record: DirectoryRecord; child?: MemoryNode }> {
    const children = this.openDirectories.get(handle);
    if (children === undefined) throw new Error('listing of an unknown handle');
    for (let index = Number(offset); index < children.length + 2; index++) {
      const child = children[index - 2];
      yield {
        record: {
          name: Buffer.from(child?.name ?? (index === 0 ? '.' : '..')),
          inode: child?.node ?? 1n,
          type: TYPE_BITS[child?.kind ?? 'directory'] >> 12,
          nextOffset: BigInt(index + 1),
        },
        ...(child === undefined ? {} : { child }),
      };
    }
  }

  #backingOf(file: MemoryNode): number {
    const known = this.#backing.get(file.node);
    if (known !== undefined) return known;
    // The open descriptor is all that is needed: nothing is left behind however the process ends.
    const directory = mkdtempSync(join(tmpdir(), 'memory-fs-'));
    const path = join(directory, 'blob');
    writeFileSync(path, file.content);
    const fd = openSync(path, 'r');
    rmSync(directory, { recursive: true });
    this.#backing.set(file.node, fd);
    return fd;
  }
}
