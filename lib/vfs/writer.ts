/**
 * Files that programs write: opening, reading and writing working copies, and making versions of them.
 *
 * - The first open of a file for writing asks the origin for the write and makes the working copy; from then on every
 *   open shares it (`working-files.ts`). The node that is opened so becomes the copy's. One that is open already stands
 *   for a version and stays with it: the open is ESTALE, which makes the kernel walk the path once more, and the lookup
 *   answers with another node. The same tells whoever comes with a node of a copy that has become a version.
 * - Where the driver can, the kernel reads and writes the copy by itself. Not a file with set-ID bits: a write must take
 *   them off.
 * - Each close of a writer publishes, and answers for it; it is not interrupted, because a program would take its file
 *   for lost. What could not be published is kept, and published behind.
 */
import type { BlockCache, CacheHandle } from '../../cache/block-cache.ts';
import type { WorkingCopy, WriteBack } from '../../cache/working-copy.ts';
import { Errno } from '../fuse/errno.ts';
import {
  ErrnoError,
  type Answer,
  type EntryReply,
  type OpenReply,
  type RequestContext,
} from '../fuse/operations.ts';
import type { CreateReply, Place } from '../fuse/write-operations.ts';
import type { CreatedFile, NamespaceChanges } from '../namespace/changes.ts';
import { NamespaceError, type InodeAttributes, type Namespace } from '../namespace/namespace.ts';
import { TierError } from '../tiers/tier.ts';
import type { FileHandle, HandleTable } from './handle-table.ts';
import type { KernelCache } from './kernel-cache.ts';
import { namePlace, pathAt, type NameCalls, type NodePlace } from './name-calls.ts';
import type { NameOperations } from './name-operations.ts';
import { pathOf, type Node, type NodeTable } from './node-table.ts';
import type { NodeView } from './node-view.ts';
import { isExclusive, truncates, writes } from './open-flags.ts';
import type { StaleReports } from './stale-reports.ts';
import type { WorkingFiles } from './working-files.ts';

const SET_ID_BITS = 0o6000;

export interface WriterOptions {
  readonly namespace: Namespace;
  readonly changes: NamespaceChanges;
  readonly names: NameOperations;
  readonly calls: NameCalls;
  readonly view: NodeView;
  readonly nodes: NodeTable;
  readonly handles: HandleTable;
  readonly kernel: KernelCache;
  readonly cache: BlockCache;
  readonly reports: StaleReports;
  readonly working: WorkingFiles;
  readonly writeBack: WriteBack;
  /** Aborts when the mount ends. */
  readonly ended: AbortSignal;
}

export class Writer {
  readonly #options: WriterOptions;
  /** Whether the driver can hand files to the kernel. */
  passthroughAble = false;
  #passthroughOpens = 0;
  #servedOpens = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  get opens(): { readonly passthroughOpens: number; readonly servedOpens: number } {
    return { passthroughOpens: this.#passthroughOpens, servedOpens: this.#servedOpens };
  }

  /** Undefined: the open is for reading, and the file is not being written. */
  open(node: Node, flags: number, context: RequestContext): Answer<OpenReply | undefined> {
    const { working } = this.#options;
    if (writes(flags) || working.of(node.inode) !== undefined) return this.#openCopy(node, flags, context);
    const settled = working.settled(node.inode, context);
    if (settled !== undefined) return settled.then(() => this.open(node, flags, context));
    if (node.copy !== undefined || node.isLeft) throw walkAgain();
    return undefined;
  }

  async #openCopy(node: Node, flags: number, context: RequestContext): Promise<OpenReply> {
    const { working } = this.#options;
    const copy = await this.use(node, { isEmptied: truncates(flags) }, context);
    try {
      if (truncates(flags)) await copy.truncate(0);
      return this.#attach(node, copy, { isWriter: writes(flags) });
    } catch (error) {
      working.leave(copy);
      throw error;
    }
  }

  async create(
    place: Place,
    how: { readonly mode: number; readonly flags: number },
    context: RequestContext,
  ): Promise<CreateReply> {
    const { copy, entry } = await this.#make(this.#options.calls.place(place), how, context);
    const node = this.#options.view.node(entry.node);
    // Whatever the flags say: it was made through this handle, and its close makes the version.
    return { entry, open: this.#attach(node, copy, { isWriter: true }) };
  }

  async makeFile(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    const { working, calls } = this.#options;
    const { copy, entry } = await this.#make(calls.place(place), { mode, flags: 0 }, context);
    try {
      await this.publish(copy);
    } finally {
      working.leave(copy);
    }
    return entry;
  }

  /** Makes or opens the working copy of a file for a change of its bytes. To be given back by `WorkingFiles.leave`. */
  async use(
    node: Node,
    { isEmptied }: { readonly isEmptied: boolean },
    context: RequestContext,
  ): Promise<WorkingCopy> {
    const { working } = this.#options;
    // Without a wait between this and what comes of it: who is first to find no copy begins one, and the others wait.
    for (let wait = working.settled(node.inode, context); wait !== undefined;) {
      await wait;
      wait = working.settled(node.inode, context);
    }
    const copy = working.of(node.inode);
    if (copy === undefined) return this.#begin(node, isEmptied, context);
    if (node.copy !== copy || !(await this.#enter(node, copy, context))) throw walkAgain();
    return copy;
  }

  /** Of a close, or what asks for a version in the same way. */
  publish(copy: WorkingCopy): Promise<void> {
    return copy.publish(this.#options.working.modeOf(copy), { signal: this.#options.ended });
  }

  async flush({ node, copy, isWriter }: FileHandle): Promise<void> {
    if (copy !== undefined && isWriter && !node.isGone) await this.publish(copy);
  }

  /** Gives back one open. */
  closed(node: Node, copy: WorkingCopy): void {
    node.opens -= 1;
    if (node.opens === 0) node.mode = 'idle';
    this.#options.nodes.unhold(node);
    this.#options.working.leave(copy);
  }

  async #enter(node: Node, copy: WorkingCopy, context: RequestContext): Promise<boolean> {
    const { working, view } = this.#options;
    const wasAhead = working.isAhead(copy, node.attributes);
    if (!(await working.enter(copy, context))) return false;
    if (wasAhead) return true;
    try {
      // The inode's attributes may have been changed since they were this copy's.
      takeAttributes(copy, await view.committed(node, context));
      return true;
    } catch (error) {
      working.leave(copy);
      throw error;
    }
  }

  async #begin(node: Node, isEmptied: boolean, context: RequestContext): Promise<WorkingCopy> {
    const { working, nodes, kernel } = this.#options;
    if (node.copy !== undefined || node.holds > 0) {
      node.isLeft = true;
      throw walkAgain();
    }
    nodes.hold(node);
    try {
      return await working.begin(node.inode, async () => {
        const copy = await this.#copyOfVersion(node, isEmptied, context);
        nodes.become(node, copy);
        kernel.forgetAttributes(node.inode);
        return copy;
      });
    } catch (error) {
      // It was removed elsewhere: its name may mean another file, or none, by now.
      if (error instanceof NamespaceError && error.code === 'not-found') throw walkAgain();
      throw error;
    } finally {
      nodes.unhold(node);
    }
  }

  async #copyOfVersion(node: Node, isEmptied: boolean, context: RequestContext): Promise<WorkingCopy> {
    const { calls, changes, cache, writeBack } = this.#options;
    const opened = await calls.run([], (signal) => changes.openWrite(node.inode, { signal }));
    const { grant, attributes } = opened;
    const { source, sizeBytes, modifiedNs } = attributes;
    const path = pathOf(node);
    const isBegunEmpty = isEmptied || source === undefined || sizeBytes === 0;
    const from = isBegunEmpty ? undefined : cache.open({ source, inode: node.inode, path });
    try {
      const file = {
        path,
        attributes: workingOf(attributes),
        isCommitted: true,
        modifiedNs,
        ...(from && { from }),
      };
      return await writeBack.begin(grant, file, { signal: context.signal });
    } catch (error) {
      if (from !== undefined) await this.#reportStale(error, node, from);
      throw error;
    } finally {
      from?.close();
    }
  }

  /** The object is gone or has moved: the origin looks again, and so will who opens. */
  async #reportStale(error: unknown, node: Node, { source }: CacheHandle): Promise<void> {
    if (error instanceof TierError && error.code === 'stale') {
      await this.#options.reports.report(node, source);
    }
  }

  async #make(
    at: NodePlace,
    { mode, flags }: { readonly mode: number; readonly flags: number },
    context: RequestContext,
  ): Promise<{ readonly copy: WorkingCopy; readonly entry: EntryReply }> {
    const { names, working, view, writeBack } = this.#options;
    const file = await names.newcomer(at, { mode, isDirectory: false }, context);
    const { grant, attributes } = await this.#createFile(at, { file, flags }, context);
    const copy = await working.begin(grant.inode, () =>
      writeBack.begin(
        grant,
        { path: pathAt(at), attributes: { ...file, extended: {} }, isCommitted: false },
        { signal: this.#options.ended },
      ),
    );
    try {
      return { copy, entry: view.enter(at.directory, { name: at.name, attributes }) };
    } catch (error) {
      working.leave(copy);
      throw error;
    }
  }

  async #createFile(
    at: NodePlace,
    { file, flags }: { readonly file: Parameters<NamespaceChanges['createFile']>[1]; readonly flags: number },
    context: RequestContext,
  ): Promise<CreatedFile> {
    const { calls, changes, namespace, view } = this.#options;
    try {
      return await calls.run([at], (signal) => changes.createFile(namePlace(at), file, { signal }));
    } catch (error) {
      const isThere = error instanceof NamespaceError && error.code === 'exists';
      if (!isThere || isExclusive(flags)) throw error;
      const found = await view.ask(context, (signal) =>
        namespace.lookup(at.directory.inode, at.name, { signal }),
      );
      if (found !== undefined) throw walkAgain();
      throw new ErrnoError(Errno.EBUSY, 'another host is making this file', { cause: error });
    }
  }

  #attach(node: Node, copy: WorkingCopy, { isWriter }: { readonly isWriter: boolean }): OpenReply {
    const { nodes, handles, ended } = this.#options;
    if (ended.aborted) throw new ErrnoError(Errno.ENODEV, 'the mount is gone');
    if (node.mode === 'idle') {
      const isServed = !this.passthroughAble || (copy.attributes.mode & SET_ID_BITS) !== 0;
      node.mode = isServed ? 'served' : 'passthrough';
    }
    nodes.hold(node);
    node.opens += 1;
    const handle = handles.add({ kind: 'file', node, copy, isWriter });
    if (node.mode === 'served') this.#servedOpens += 1;
    else this.#passthroughOpens += 1;
    return {
      handle,
      // Of a close that the kernel does not tell, locks would not be given back.
      noFlush: false,
      // What the kernel keeps of the node may be from before writes that went past it.
      keepCache: false,
      ...(node.mode === 'passthrough' && { backing: { fd: copy.fd } }),
    };
  }
}

function walkAgain(): ErrnoError {
  return new ErrnoError(Errno.ESTALE, 'the file is another node by now');
}

function workingOf({ mode, uid, gid, extended = {} }: InodeAttributes): WorkingCopy['attributes'] {
  return { mode, uid, gid, extended };
}

function takeAttributes(copy: WorkingCopy, now: InodeAttributes): void {
  const isCommitted = { isCommitted: true };
  copy.setAttributes(workingOf(now), isCommitted);
  if (!copy.isDirty && copy.stat().modifiedNs !== now.modifiedNs)
    copy.setTimes({ modifiedNs: now.modifiedNs }, isCommitted);
}
