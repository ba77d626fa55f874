/**
 * Changes of names that programs make: directories, symlinks, removing, renaming.
 *
 * - What is made belongs to who makes it; a directory with the set-group-ID bit hands down its group, and to directories
 *   the bit.
 * - Files that lose their last name go on for whoever has them open, and show no link.
 * - A rename comes after what was written before it: of a file that others can see already, and of everything below a
 *   directory, what was closed or is dirty is committed first, so that nobody finds old bytes, or none, under the new
 *   name. A file that was never committed takes its bytes along and needs nothing.
 * - One inode has one name: hard links are EPERM.
 */
import type { WorkingCopy, WriteBack } from '../../cache/working-copy.ts';
import type { InodeNumber, NodeId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { Errno } from '../fuse/errno.ts';
import { ErrnoError, type EntryReply, type RequestContext } from '../fuse/operations.ts';
import type { Place, RenameMode } from '../fuse/write-operations.ts';
import type { NamespaceChanges, NewFile } from '../namespace/changes.ts';
import type { InodeAttributes, Namespace } from '../namespace/namespace.ts';
import { bounded } from './bounded.ts';
import type { KernelCache } from './kernel-cache.ts';
import { namePlace, pathAt, type NameCalls, type NodePlace } from './name-calls.ts';
import { pathOf, type NodeTable } from './node-table.ts';
import type { NodeView } from './node-view.ts';
import type { WorkingFiles } from './working-files.ts';

const SET_GROUP_ID = 0o2000;
/** How long a rename waits for what has to be committed before it. */
const COMMITS_DEADLINE_MS = 600_000;

export interface NameOperationsOptions {
  readonly namespace: Namespace;
  readonly changes: NamespaceChanges;
  readonly calls: NameCalls;
  readonly view: NodeView;
  readonly nodes: NodeTable;
  readonly kernel: KernelCache;
  readonly working: WorkingFiles;
  readonly writeBack: WriteBack;
  readonly clock: Clock;
}

export class NameOperations {
  readonly #options: NameOperationsOptions;

  constructor(options: NameOperationsOptions) {
    this.#options = options;
  }

  /** Whose a new inode is, and its mode. */
  async newcomer(
    { directory }: NodePlace,
    made: { readonly mode: number; readonly isDirectory: boolean },
    context: RequestContext,
  ): Promise<NewFile> {
    const { namespace, view } = this.#options;
    // Times of a directory change with each name; who owns it, and this bit, are what the kernel went by too.
    const above =
      namespace.knownAttributes(directory.inode)?.attributes ??
      directory.attributes ??
      (await view.inode(directory, context));
    const handsDown = (above.mode & SET_GROUP_ID) !== 0;
    return {
      mode: handsDown && made.isDirectory ? made.mode | SET_GROUP_ID : made.mode,
      uid: context.uid,
      gid: handsDown ? above.gid : context.gid,
    };
  }

  async makeDirectory(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    const { calls, changes } = this.#options;
    const at = calls.place(place);
    const made = await this.newcomer(at, { mode, isDirectory: true }, context);
    const attributes = await calls.run([at], (signal) =>
      changes.makeDirectory(namePlace(at), made, { signal }),
    );
    return this.#options.view.enter(at.directory, { name: at.name, attributes });
  }

  async makeSymlink(place: Place, target: Uint8Array, context: RequestContext): Promise<EntryReply> {
    const { calls, changes } = this.#options;
    const at = calls.place(place);
    const text = Buffer.from(target).toString('utf8');
    if (Buffer.compare(Buffer.from(text, 'utf8'), target) !== 0) {
      throw new ErrnoError(Errno.EINVAL, 'targets of an export are UTF-8');
    }
    const { uid, gid } = await this.newcomer(at, { mode: 0o777, isDirectory: false }, context);
    const attributes = await calls.run([at], (signal) =>
      changes.makeSymlink(namePlace(at), { uid, gid, target: text }, { signal }),
    );
    return this.#options.view.enter(at.directory, { name: at.name, attributes });
  }

  link(_node: NodeId, _place: Place): Promise<EntryReply> {
    return Promise.reject(new ErrnoError(Errno.EPERM, 'a file of an export has one name'));
  }

  async unlink(place: Place): Promise<void> {
    const { calls, changes } = this.#options;
    const at = calls.existing(place);
    const { inode } = await calls.run([at], (signal) => changes.unlink(namePlace(at), { signal }));
    this.#lost(inode);
  }

  async removeDirectory(place: Place, context: RequestContext): Promise<void> {
    const { calls, changes } = this.#options;
    const at = calls.existing(place);
    const known = await this.#find(at, context);
    await calls.run([at], (signal) => changes.removeDirectory(namePlace(at), { signal }));
    if (known !== undefined) this.#lost(known.inode);
  }

  async rename(
    source: Place,
    target: Place & { readonly mode: RenameMode },
    context: RequestContext,
  ): Promise<void> {
    const { calls, changes } = this.#options;
    const { mode } = target;
    const [from, to] = [calls.existing(source), calls.place(target)];
    const moved = await this.#find(from, context);
    if (moved === undefined) throw new ErrnoError(Errno.ENOENT, 'no such name');
    const back = mode === 'exchange' ? await this.#find(to, context) : undefined;
    await this.#commitBefore(moved, pathAt(from), context);
    if (back !== undefined) await this.#commitBefore(back, pathAt(to), context);
    const replaced = await calls.run([from, to], (signal) =>
      changes.rename(namePlace(from), { ...namePlace(to), mode }, { signal }),
    );
    if (replaced !== undefined) this.#lost(replaced.inode);
    this.#moved(moved.inode, to);
    if (back !== undefined) this.#moved(back.inode, from);
  }

  async #find(at: NodePlace, context: RequestContext): Promise<InodeAttributes | undefined> {
    const { namespace, view } = this.#options;
    const { directory, name } = at;
    const known = namespace.knownName(directory.inode, name);
    if (known !== undefined) return known.attributes;
    return view.ask(context, (signal) => namespace.lookup(directory.inode, name, { signal }));
  }

  async #commitBefore(moved: InodeAttributes, path: string, context: RequestContext): Promise<void> {
    const { working, writeBack, clock } = this.#options;
    const copy = working.of(moved.inode);
    const isShown = moved.kind === 'file' && moved.source !== undefined && copy?.isDirty === true;
    if (moved.kind !== 'directory' && !isShown) return;
    await bounded(clock, { signal: context.signal, deadlineMs: COMMITS_DEADLINE_MS }, async (signal) => {
      if (copy !== undefined && working.isUsed(copy)) await copy.publish('through', { signal });
      else await writeBack.flush(path, { signal });
    });
  }

  #lost(inode: InodeNumber): void {
    const { nodes, kernel, working } = this.#options;
    for (const node of nodes.ofInode(inode)) node.isGone = true;
    kernel.forgetAttributes(inode);
    working.of(inode)?.unlinked();
  }

  #moved(inode: InodeNumber, to: NodePlace): void {
    const { nodes, kernel, working } = this.#options;
    for (const node of nodes.ofInode(inode)) {
      node.parent = to.directory;
      node.name = to.name;
    }
    kernel.forgetAttributes(inode);
    const own = working.of(inode);
    if (own !== undefined) own.path = pathAt(to);
    // Of a directory: what is open below it. (What is not was committed before.)
    for (const copy of working.used()) this.#followNode(copy);
  }

  #followNode(copy: WorkingCopy): void {
    const node = this.#options.nodes.ofInode(copy.grant.inode).find((each) => each.copy === copy);
    if (node !== undefined) copy.path = pathOf(node);
  }
}
