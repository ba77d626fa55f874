/** The write side of `MemoryFs`: what POSIX asks of a file system, without permissions, which the kernel checks. */
import type { NodeId } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { FileLocks } from '../../lib/fuse/file-locks.ts';
import {
  ErrnoError,
  type AttributesReply,
  type EntryReply,
  type OpenReply,
  type RequestContext,
} from '../../lib/fuse/operations.ts';
import type {
  AttributeChanges,
  CreateReply,
  LockOperations,
  Place,
  RenameMode,
  WriteOperations,
  WriteRange,
} from '../../lib/fuse/write-operations.ts';
import type { AllocateRange } from './memory-content.ts';
import { keyOf, type Kind, type MemoryNode, type MemoryTree, nowNs } from './memory-tree.ts';

const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
/** Copied at a time: programs ask again. */
const COPY_BYTES_MAX = 8 * 1024 * 1024;
const SET_UID = 0o4000;
const SET_GID = 0o2000;
const GROUP_MAY_EXECUTE = 0o010;

export interface MemoryWritesOptions {
  readonly tree: MemoryTree;
  readonly called: (operation: string, detail?: string) => void;
  readonly open: (file: MemoryNode) => OpenReply;
}

export class MemoryWrites implements WriteOperations {
  readonly #tree: MemoryTree;
  readonly #called: MemoryWritesOptions['called'];
  readonly #open: MemoryWritesOptions['open'];

  constructor(options: MemoryWritesOptions) {
    this.#tree = options.tree;
    this.#called = options.called;
    this.#open = options.open;
  }

  async create(
    place: Place,
    how: { readonly mode: number; readonly flags: number },
    context: RequestContext,
  ): Promise<CreateReply> {
    this.#called('create', keyOf(place.name));
    const there = this.#tree.directory(place.parent).children.get(keyOf(place.name));
    if (there !== undefined && (how.flags & O_EXCL) !== 0) throw exists();
    if (there !== undefined && there.kind !== 'file')
      throw new ErrnoError(Errno.EISDIR, 'no file that could be opened');
    const file = there ?? this.#make(place, { kind: 'file', mode: how.mode }, context);
    if ((how.flags & O_TRUNC) !== 0) this.truncate(file);
    return { entry: this.#tree.entry(file), open: this.#open(file) };
  }

  async makeFile(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    this.#called('mknod', keyOf(place.name));
    return this.#tree.entry(this.#make(place, { kind: 'file', mode }, context));
  }

  async makeDirectory(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    this.#called('mkdir', keyOf(place.name));
    return this.#tree.entry(this.#make(place, { kind: 'directory', mode }, context));
  }

  async makeSymlink(place: Place, target: Uint8Array, context: RequestContext): Promise<EntryReply> {
    this.#called('symlink', keyOf(place.name));
    const link = { kind: 'symlink', mode: 0o777, target: Buffer.from(target) } as const;
    return this.#tree.entry(this.#make(place, link, context));
  }

  async link(node: NodeId, place: Place): Promise<EntryReply> {
    this.#called('link', keyOf(place.name));
    const [file, directory] = [this.#tree.get(node), this.#tree.directory(place.parent)];
    if (file.kind === 'directory') throw new ErrnoError(Errno.EPERM, 'a directory has one name');
    if (file.links === 0) throw new ErrnoError(Errno.ENOENT, 'its last name is gone');
    if (directory.children.has(keyOf(place.name))) throw exists();
    this.#tree.attach(directory, keyOf(place.name), file);
    file.changedNs = touched(directory);
    return this.#tree.entry(file);
  }

  async unlink(place: Place): Promise<void> {
    this.#called('unlink', keyOf(place.name));
    const { directory, child } = this.#there(place);
    if (child.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
    child.changedNs = touched(directory);
    this.#tree.detach(directory, keyOf(place.name));
  }

  async removeDirectory(place: Place): Promise<void> {
    this.#called('rmdir', keyOf(place.name));
    const { directory, child } = this.#there(place);
    if (child.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    if (child.children.size > 0) throw notEmpty();
    child.changedNs = touched(directory);
    this.#tree.detach(directory, keyOf(place.name));
  }

  async rename(from: Place, to: Place & { readonly mode: RenameMode }): Promise<void> {
    this.#called('rename', `${keyOf(from.name)} ${keyOf(to.name)} ${to.mode}`);
    const { directory: source, child } = this.#there(from);
    const target = this.#tree.directory(to.parent);
    const replaced = target.children.get(keyOf(to.name));
    if (isWithin(target, child)) throw new ErrnoError(Errno.EINVAL, 'into itself');
    if (to.mode === 'exchange') {
      if (replaced === undefined) throw new ErrnoError(Errno.ENOENT, 'nothing to exchange it with');
      if (isWithin(source, replaced)) throw new ErrnoError(Errno.EINVAL, 'into itself');
      this.#put(source, keyOf(from.name), replaced);
    } else {
      if (replaced !== undefined && to.mode === 'keep') throw exists();
      if (replaced === child) return;
      if (replaced !== undefined) requireReplaceable(child, replaced);
      // It has this name all the time; `#put` takes the count back.
      child.links++;
      this.#tree.detach(source, keyOf(from.name));
      if (replaced !== undefined) this.#tree.detach(target, keyOf(to.name));
    }
    this.#put(target, keyOf(to.name), child);
    child.changedNs = touched(source);
    touched(target);
    if (replaced !== undefined) replaced.changedNs = child.changedNs;
  }

  async setAttributes(
    node: NodeId,
    changes: AttributeChanges & { readonly handle?: bigint },
  ): Promise<AttributesReply> {
    this.#called('setattr', describeChanges(changes));
    const changed = this.#tree.get(node);
    const { mode, uid, gid, sizeBytes, accessedNs, modifiedNs } = changes;
    if (sizeBytes !== undefined) this.truncate(changed, sizeBytes);
    if (mode !== undefined) changed.mode = mode;
    if (uid !== undefined) changed.uid = uid;
    if (gid !== undefined) changed.gid = gid;
    if (changes.dropSetIds === true || uid !== undefined || gid !== undefined) dropSetIds(changed);
    this.#tree.settle(changed);
    const at = nowNs();
    if (accessedNs !== undefined) changed.accessedNs = accessedNs === 'now' ? at : accessedNs;
    if (modifiedNs !== undefined) changed.modifiedNs = modifiedNs === 'now' ? at : modifiedNs;
    changed.changedNs = at;
    return this.#tree.attributesOf(changed);
  }

  async setExtendedAttribute(
    node: NodeId,
    attribute: {
      readonly name: string;
      readonly value: Uint8Array;
      readonly mode: 'either' | 'create' | 'replace';
    },
  ): Promise<void> {
    this.#called('setxattr', attribute.name);
    const { attributes } = this.#tree.get(node);
    const isThere = attributes.has(attribute.name);
    if (isThere && attribute.mode === 'create') throw exists();
    if (!isThere && attribute.mode === 'replace') throw noAttribute();
    attributes.set(attribute.name, Buffer.from(attribute.value));
  }

  async removeExtendedAttribute(node: NodeId, name: string): Promise<void> {
    this.#called('removexattr', name);
    if (!this.#tree.get(node).attributes.delete(name)) throw noAttribute();
  }

  async write(handle: bigint, range: WriteRange): Promise<number> {
    this.#called('write', `${range.offset}+${range.bytes.length}`);
    const file = this.#tree.file(handle);
    file.content.write(range.offset, range.bytes);
    if (range.dropSetIds) dropSetIds(file);
    return range.bytes.length;
  }

  async sync(handle: bigint, what: { readonly dataOnly: boolean }): Promise<void> {
    this.#called(what.dataOnly ? 'fdatasync' : 'fsync');
    this.#tree.file(handle);
  }

  async syncDirectory(): Promise<void> {
    this.#called('fsyncdir');
  }

  async allocate(handle: bigint, range: AllocateRange): Promise<void> {
    this.#called('fallocate', `${range.mode} ${range.offset}+${range.length}`);
    this.#tree.file(handle).content.allocate(range);
  }

  async seek(
    handle: bigint,
    to: { readonly offset: number; readonly kind: 'data' | 'hole' },
  ): Promise<number> {
    this.#called('lseek', `${to.kind} ${to.offset}`);
    const found = this.#tree.file(handle).content.seek(to.offset, to.kind);
    if (found === undefined) throw new ErrnoError(Errno.ENXIO, 'beyond the end');
    return found;
  }

  async copyRange(
    from: { readonly handle: bigint; readonly offset: number },
    to: { readonly handle: bigint; readonly offset: number; readonly length: number },
  ): Promise<number> {
    this.#called('copy_file_range', `${from.offset}+${to.length} to ${to.offset}`);
    const length = Math.min(to.length, COPY_BYTES_MAX);
    const bytes = this.#tree.file(from.handle).content.read(from.offset, length);
    this.#tree.file(to.handle).content.write(to.offset, bytes);
    return bytes.length;
  }

  truncate(file: MemoryNode, size = 0): void {
    if (file.kind !== 'file') throw new ErrnoError(Errno.EINVAL, 'not a file');
    file.content.truncate(size);
  }

  #make(
    place: Place,
    fresh: { readonly kind: Kind; readonly mode: number; readonly target?: Buffer },
    context: RequestContext,
  ): MemoryNode {
    const directory = this.#tree.directory(place.parent);
    if (directory.links === 0) throw new ErrnoError(Errno.ENOENT, 'the directory is gone');
    if (directory.children.has(keyOf(place.name))) throw exists();
    const inherits = (directory.mode & SET_GID) !== 0;
    const made = this.#tree.make({
      ...fresh,
      uid: context.uid,
      gid: inherits ? directory.gid : context.gid,
      mode: fresh.mode | (inherits && fresh.kind === 'directory' ? SET_GID : 0),
    });
    this.#tree.attach(directory, keyOf(place.name), made);
    touched(directory);
    return made;
  }

  #there(place: Place): { directory: MemoryNode; child: MemoryNode } {
    const directory = this.#tree.directory(place.parent);
    const child = directory.children.get(keyOf(place.name));
    if (child === undefined) throw new ErrnoError(Errno.ENOENT, 'no such name');
    return { directory, child };
  }

  /** A name stands for another node; links stay as they are. */
  #put(directory: MemoryNode, key: string, child: MemoryNode): void {
    this.#tree.attach(directory, key, child);
    child.links--;
  }
}

/** Locks by inode, which here is the node. */
export class MemoryLocks implements LockOperations {
  readonly locks = new FileLocks();

  test: LockOperations['test'] = async (node, lock) => this.locks.test(node, lock);
  take: LockOperations['take'] = (node, lock, { signal }) => this.locks.take(node, lock, signal);
  giveBack: LockOperations['giveBack'] = (node, range) => this.locks.giveBack(node, range);
}

/** The names in a directory have changed. */
function touched(directory: MemoryNode): bigint {
  return (directory.modifiedNs = directory.changedNs = nowNs());
}

function isWithin(directory: MemoryNode, ancestor: MemoryNode): boolean {
  for (let at: MemoryNode | undefined = directory; at !== undefined; at = at.parent)
    if (at === ancestor) return true;
  return false;
}

function requireReplaceable(by: MemoryNode, replaced: MemoryNode): void {
  if (by.kind === 'directory' && replaced.kind !== 'directory')
    throw new ErrnoError(Errno.ENOTDIR, 'a directory replaces only a directory');
  if (by.kind !== 'directory' && replaced.kind === 'directory')
    throw new ErrnoError(Errno.EISDIR, 'a file does not replace a directory');
  if (replaced.children.size > 0) throw notEmpty();
}

function dropSetIds(node: MemoryNode): void {
  if (node.kind !== 'file') return;
  node.mode &= ~SET_UID;
  if ((node.mode & GROUP_MAY_EXECUTE) !== 0) node.mode &= ~SET_GID;
}

function describeChanges(changes: AttributeChanges & { readonly handle?: bigint }): string {
  const { handle, ...rest } = changes;
  const fields = Object.entries(rest).map(([field, value]) => `${field}=${String(value)}`);
  return [...fields, ...(handle === undefined ? [] : ['by handle'])].join(' ');
}

const exists = (): ErrnoError => new ErrnoError(Errno.EEXIST, 'it exists');
const notEmpty = (): ErrnoError => new ErrnoError(Errno.ENOTEMPTY, 'not empty');
const noAttribute = (): ErrnoError => new ErrnoError(Errno.ENODATA, 'no such attribute');
