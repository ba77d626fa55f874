/**
 * What `MemoryFs` is made of: nodes, names and what is open. Every node is its inode; a node lives until it has no
 * name, no handle, and no lookup that the driver holds.
 */
import { systemClock } from '../../lib/base/clock.ts';
import { ROOT_NODE, type NodeId } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { ErrnoError, type AttributesReply, type EntryReply } from '../../lib/fuse/operations.ts';
import { contentOf, type TreeEntry } from '../conformance/tree.ts';
import { type FileContent, SparseContent } from './memory-content.ts';

export const TYPE_BITS = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
export type Kind = keyof typeof TYPE_BITS;

export interface MemoryNode {
  readonly node: NodeId;
  readonly kind: Kind;
  /** Of a directory its only name, of a file one that it has, or had. */
  name: string;
  parent: MemoryNode | undefined;
  links: number;
  mode: number;
  uid: number;
  gid: number;
  modifiedNs: bigint;
  accessedNs: bigint;
  changedNs: bigint;
  content: FileContent;
  /** The content's, when it was last looked at. */
  stamp: bigint;
  readonly target: Buffer;
  /** By the bytes of the name, as latin1. */
  readonly children: Map<string, MemoryNode>;
  readonly attributes: Map<string, Buffer>;
}

export interface NewNode {
  readonly kind: Kind;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly target?: Buffer;
}

/** A name's bytes as a key. */
export const keyOf = (name: Uint8Array): string => Buffer.from(name).toString('latin1');
export const keyOfText = (name: string): string => Buffer.from(name).toString('latin1');
export const bytesOf = (key: string): Buffer => Buffer.from(key, 'latin1');

export const nowNs = (): bigint => BigInt(systemClock.wallMs()) * 1_000_000n;

export class MemoryTree {
  validForMs: number;
  /** Lookups that the driver holds of each node, as this side counts them. */
  readonly held = new Map<NodeId, bigint>();
  readonly openFiles = new Map<bigint, MemoryNode>();
  readonly openDirectories = new Map<bigint, readonly (readonly [string, MemoryNode])[]>();
  readonly #nodes = new Map<NodeId, MemoryNode>();
  #nextNode = 1n;
  #nextHandle = 1n;

  constructor(entries: readonly TreeEntry[], options: { readonly validForMs: number }) {
    this.validForMs = options.validForMs;
    this.#add({ path: '', kind: 'directory', mode: 0o755, modifiedMs: 0 });
    for (const entry of entries) this.#add(entry);
  }

  /** Nodes that live. */
  get size(): number {
    return this.#nodes.size;
  }

  dispose(): void {
    for (const { content } of this.#nodes.values()) content.close();
    this.#nodes.clear();
  }

  /** By a path from the root. */
  at(path: string): MemoryNode {
    let at = this.get(ROOT_NODE);
    for (const part of path.split('/').filter(Boolean)) {
      const child = at.children.get(keyOfText(part));
      if (child === undefined) throw new Error(`no ${path}`);
      at = child;
    }
    return at;
  }

  get(node: NodeId): MemoryNode {
    const found = this.#nodes.get(node);
    if (found === undefined) throw new ErrnoError(Errno.ESTALE, 'unknown node');
    return found;
  }

  directory(node: NodeId): MemoryNode {
    const found = this.get(node);
    if (found.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    return found;
  }

  file(handle: bigint): MemoryNode {
    const file = this.openFiles.get(handle);
    if (file === undefined) throw new Error('use of an unknown handle');
    return file;
  }

  /** Without a name as yet. */
  make(fresh: NewNode): MemoryNode {
    const at = nowNs();
    const made: MemoryNode = {
      ...fresh,
      node: this.#nextNode++ as NodeId,
      name: '',
      parent: undefined,
      links: 0,
      modifiedNs: at,
      accessedNs: at,
      changedNs: at,
      content: new SparseContent(),
      stamp: 0n,
      target: fresh.target ?? Buffer.alloc(0),
      children: new Map(),
      attributes: new Map(),
    };
    this.#nodes.set(made.node, made);
    return made;
  }

  attach(parent: MemoryNode, key: string, child: MemoryNode): void {
    parent.children.set(key, child);
    child.parent = parent;
    child.name = key;
    child.links++;
  }

  detach(parent: MemoryNode, key: string): void {
    const child = parent.children.get(key);
    if (child === undefined) return;
    parent.children.delete(key);
    child.links--;
    this.#collect(child);
  }

  open(file: MemoryNode): bigint {
    const handle = this.#nextHandle++;
    this.openFiles.set(handle, file);
    return handle;
  }

  close(handle: bigint): void {
    const file = this.openFiles.get(handle);
    if (file === undefined) throw new Error('released twice');
    this.openFiles.delete(handle);
    this.#collect(file);
  }

  openDirectory(directory: MemoryNode): bigint {
    const handle = this.#nextHandle++;
    this.openDirectories.set(handle, [...directory.children]);
    return handle;
  }

  forget(node: NodeId, count: bigint): void {
    const left = (this.held.get(node) ?? 0n) - count;
    if (left < 0n) throw new Error('forgot more than was looked up');
    if (left > 0n) return void this.held.set(node, left);
    this.held.delete(node);
    const forgotten = this.#nodes.get(node);
    if (forgotten !== undefined) this.#collect(forgotten);
  }

  /** Counts one lookup. */
  entry(child: MemoryNode): EntryReply {
    this.held.set(child.node, (this.held.get(child.node) ?? 0n) + 1n);
    return { ...this.attributesOf(child), node: child.node, entryValidForMs: this.validForMs };
  }

  attributesOf(node: MemoryNode): AttributesReply {
    this.#notice(node);
    const children = [...node.children.values()].filter(({ kind }) => kind === 'directory').length;
    return {
      validForMs: this.validForMs,
      attributes: {
        inode: node.node,
        sizeBytes: node.kind === 'symlink' ? node.target.length : node.content.size,
        modifiedNs: node.modifiedNs,
        accessedNs: node.accessedNs,
        changedNs: node.changedNs,
        mode: TYPE_BITS[node.kind] | node.mode,
        links: node.kind === 'directory' && node.links > 0 ? 2 + children : node.links,
        uid: node.uid,
        gid: node.gid,
        device: 0,
        blockBytes: 1024 * 1024,
      },
    };
  }

  /** Other bytes, as they are made by an operation or by the kernel itself: both show in the content's stamp. */
  #notice(node: MemoryNode): void {
    if (node.kind !== 'file' || node.content.stamp === node.stamp) return;
    node.stamp = node.content.stamp;
    node.modifiedNs = node.changedNs = nowNs();
  }

  /** Times that were set by hand stay until the next change. */
  settle(node: MemoryNode): void {
    this.#notice(node);
  }

  #collect(node: MemoryNode): void {
    if (node.links > 0 || node.node === ROOT_NODE || this.held.has(node.node)) return;
    if ([...this.openFiles.values()].includes(node)) return;
    this.#nodes.delete(node.node);
    node.content.close();
  }

  add(entry: TreeEntry): void {
    this.#add(entry);
  }

  /** Another node takes the place of a name. */
  supersede(path: string, content: Buffer): void {
    const old = this.at(path);
    const { kind, mode, uid, gid, parent, name } = old;
    if (parent === undefined) throw new Error('the root stays');
    const fresh = this.make({ kind, mode, uid, gid });
    fresh.content = SparseContent.of(content);
    this.detach(parent, name);
    this.attach(parent, name, fresh);
  }

  #add(entry: TreeEntry): void {
    const cut = entry.path.lastIndexOf('/');
    const { kind, mode } = entry;
    const target = Buffer.from(entry.target ?? '');
    const added = this.make({ kind, mode, uid: 0, gid: 0, target });
    if (kind === 'file') added.content = SparseContent.of(contentOf(entry));
    if (kind === 'file') added.attributes.set('user.perigee.test', Buffer.from(entry.path));
    added.stamp = added.content.stamp;
    added.modifiedNs = added.accessedNs = added.changedNs = BigInt(entry.modifiedMs) * 1_000_000n;
    if (entry.path === '') added.links = 1;
    else
      this.attach(
        this.at(entry.path.slice(0, Math.max(cut, 0))),
        keyOfText(entry.path.slice(cut + 1)),
        added,
      );
  }
}
