/**
 * What programs are shown of names and inodes.
 *
 * - What the namespace holds is answered at once, and the kernel may keep it for as long as the namespace says: such an
 *   answer is read and handed on within one turn of the event loop. All else is asked for, and the kernel keeps nothing
 *   of it, unless the namespace holds it by then.
 * - A file's node shows its own version, whatever others commit meanwhile, with what belongs to the inode as it is now.
 * - A file that is written here is shown as its working copy is, and the kernel keeps nothing of it: who writes it by
 *   passthrough does not tell us.
 */
import type { WorkingCopy } from '../../cache/working-copy.ts';
import type { NodeId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { Errno } from '../fuse/errno.ts';
import {
  ErrnoError,
  type Answer,
  type AttributesReply,
  type EntryReply,
  type RequestContext,
} from '../fuse/operations.ts';
import type {
  DirectoryEntry,
  InodeAttributes,
  KnownAttributes,
  KnownName,
  Namespace,
} from '../namespace/namespace.ts';
import { nodeAttributes, NO_ATTRIBUTES, workingAttributes } from './attributes.ts';
import { bounded } from './bounded.ts';
import { errnoOf } from './errno-of.ts';
import type { KernelCache } from './kernel-cache.ts';
import type { Entry, Node, NodeTable } from './node-table.ts';
import type { WorkingFiles } from './working-files.ts';

export interface NodeViewOptions {
  readonly namespace: Namespace;
  readonly nodes: NodeTable;
  readonly kernel: KernelCache;
  readonly clock: Clock;
  /** How long an operation may wait for names. */
  readonly namesDeadlineMs: number;
  /** Absent: nothing is written here. */
  readonly working: WorkingFiles | undefined;
}

export class NodeView {
  readonly #options: NodeViewOptions;
  /** Orders what the namespace is asked. */
  #lastAsked = 0;

  constructor(options: NodeViewOptions) {
    this.#options = options;
  }

  /** @throws ErrnoError ESTALE */
  node(id: NodeId): Node {
    const node = this.#options.nodes.get(id);
    if (node === undefined) throw new ErrnoError(Errno.ESTALE, `no node ${id}`);
    return node;
  }

  /** @throws ErrnoError ENOTDIR */
  directory(id: NodeId): Node {
    const node = this.node(id);
    if (node.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    return node;
  }

  ask<T>(context: RequestContext, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, namesDeadlineMs } = this.#options;
    return bounded(clock, { signal: context.signal, deadlineMs: namesDeadlineMs }, run);
  }

  lookup(directory: Node, name: string, context: RequestContext): Answer<EntryReply> {
    const at = { parent: directory, name, asked: ++this.#lastAsked };
    const known = this.#options.namespace.knownName(directory.inode, name);
    return known === undefined ? this.#lookUp(at, context) : this.#found(known, at);
  }

  /** What was answered some time ago, or by a change: what is held now counts, else the kernel must ask again. */
  enter(parent: Node, { name, attributes }: DirectoryEntry): EntryReply {
    const known = this.#options.namespace.knownName(parent.inode, name);
    if (known?.attributes?.inode !== attributes.inode) {
      return this.#enter(attributes, { parent, name, asked: 0, validForMs: 0 });
    }
    const { validForMs } = known;
    return this.#enter(known.attributes, { parent, name, asked: ++this.#lastAsked, validForMs });
  }

  /** Of the node's own version, with what belongs to the inode as it is now. */
  attributes(node: Node, handle: bigint | undefined, context: RequestContext): Answer<AttributesReply> {
    const own = node.attributes;
    const known = this.#options.namespace.knownAttributes(node.inode);
    if (own !== undefined) {
      const copy = this.#copyOf(node);
      if (copy !== undefined) return workingReply(node, own, copy);
      if (node.isGone) return { attributes: nodeAttributes(own, { gone: true }), validForMs: 0 };
      // Before a read through a handle the version says it all, and no origin is needed. Within a walk along a path the
      // kernel has just looked this up, so the answer is of this very call; without one it is about an open file, and
      // that shows what its open found. (A directory may be where a walk begins.)
      const isOfThisCall = node.kind !== 'directory' && node.isLookedUpEachTime && !isOutlived(node);
      if (isOfThisCall || (handle !== undefined && known === undefined)) {
        return { attributes: nodeAttributes(own), validForMs: 0 };
      }
    }
    const asked = ++this.#lastAsked;
    return known === undefined ? this.#askAndTell(node, asked, context) : this.#told(node, asked, known);
  }

  /** Of the inode, whatever the node's version. */
  async inode(node: Node, context: RequestContext): Promise<InodeAttributes> {
    const copy = this.#copyOf(node);
    if (copy !== undefined && node.attributes !== undefined) {
      return workingAttributes(node.attributes, { attributes: copy.attributes, stat: copy.stat() });
    }
    return this.committed(node, context);
  }

  /** The same without what is only in a working copy. */
  async committed(node: Node, context: RequestContext): Promise<InodeAttributes> {
    const { namespace } = this.#options;
    const known = namespace.knownAttributes(node.inode);
    if (known !== undefined) return known.attributes;
    try {
      return await this.ask(context, (signal) => namespace.attributes(node.inode, { signal }));
    } catch (error) {
      return knownAfter(error, node);
    }
  }

  /** What an inode was changed to, by an answer of the origin. */
  changed(node: Node, attributes: InodeAttributes): AttributesReply {
    const known = this.#options.namespace.knownAttributes(node.inode) ?? { attributes, validForMs: 0 };
    return this.#told(node, ++this.#lastAsked, known);
  }

  async #lookUp(at: Omit<Entry, 'validForMs'>, context: RequestContext): Promise<EntryReply> {
    const { namespace } = this.#options;
    const directory = at.parent.inode;
    const attributes = await this.ask(context, (signal) => namespace.lookup(directory, at.name, { signal }));
    return this.#found(namespace.knownName(directory, at.name) ?? { attributes, validForMs: 0 }, at);
  }

  #found({ attributes, validForMs }: KnownName, at: Omit<Entry, 'validForMs'>): EntryReply {
    if (attributes === undefined) return noEntry(this.#options.kernel.absenceFor(at.parent, validForMs));
    return this.#enter(attributes, { ...at, validForMs });
  }

  async #askAndTell(node: Node, asked: number, context: RequestContext): Promise<AttributesReply> {
    let answer: KnownAttributes;
    try {
      answer = await this.#askAttributes(node, context);
    } catch (error) {
      const gone = errnoOf(error) === Errno.ENOENT;
      return { attributes: nodeAttributes(knownAfter(error, node), { gone }), validForMs: 0 };
    }
    return this.#told(node, asked, answer);
  }

  #told(node: Node, asked: number, { attributes: now, validForMs }: KnownAttributes): AttributesReply {
    if (isOutlived(node)) {
      const copy = this.#options.working?.of(node.inode);
      return { attributes: nodeAttributes(withSizeOf(copy, now)), validForMs: 0 };
    }
    const own = node.attributes;
    if (own === undefined || (now.kind === node.kind && now.source?.version === node.version)) {
      if (asked >= node.asked) {
        node.attributes = now;
        node.asked = asked;
      }
      const valid = this.#options.kernel.attributesFor(node, validForMs);
      return { attributes: nodeAttributes(now), validForMs: valid };
    }
    // Superseded: who asks by path has just been told of this version; who has it open stays with it.
    const { mode, uid, gid } = now;
    return { attributes: nodeAttributes({ ...own, mode, uid, gid }), validForMs: 0 };
  }

  async #askAttributes(node: Node, context: RequestContext): Promise<KnownAttributes> {
    const { namespace } = this.#options;
    const attributes = await this.ask(context, (signal) => namespace.attributes(node.inode, { signal }));
    return namespace.knownAttributes(node.inode) ?? { attributes, validForMs: 0 };
  }

  #enter(attributes: InodeAttributes, at: Entry): EntryReply {
    const { nodes, kernel, working } = this.#options;
    const copy = attributes.kind === 'file' ? working?.of(attributes.inode) : undefined;
    if (copy !== undefined) {
      const node = nodes.enter(attributes, { ...at, validForMs: 0, copy });
      const shown = working?.isAhead(copy, attributes)
        ? workingReply(node, attributes, copy)
        : { attributes: nodeAttributes(withSizeOf(copy, attributes)), validForMs: 0 };
      return { node: node.id, entryValidForMs: 0, ...shown };
    }
    const node = nodes.enter(attributes, at);
    return {
      node: node.id,
      entryValidForMs: kernel.entryFor(at.parent, at.validForMs),
      validForMs: kernel.attributesFor(node, at.validForMs),
      attributes: nodeAttributes(attributes),
    };
  }

  /** The copy that a node shows: its own, or, of one that nobody has open, what its inode is now. */
  #copyOf(node: Node): WorkingCopy | undefined {
    const { working } = this.#options;
    if (working === undefined || node.kind !== 'file') return undefined;
    const own = node.copy !== undefined && working.isLive(node.copy) ? node.copy : undefined;
    const copy = own ?? (node.opens === 0 ? working.of(node.inode) : undefined);
    return copy !== undefined && working.isAhead(copy, node.attributes) ? copy : undefined;
  }
}

function workingReply(node: Node, attributes: InodeAttributes, copy: WorkingCopy): AttributesReply {
  const stat = copy.stat();
  const shown = workingAttributes(attributes, { attributes: copy.attributes, stat });
  const beside = { gone: node.isGone, accessedNs: stat.accessedNs };
  return { attributes: nodeAttributes(shown, beside), validForMs: 0 };
}

/** What an open would find, also if it could not be committed. */
function withSizeOf(copy: WorkingCopy | undefined, attributes: InodeAttributes): InodeAttributes {
  return copy === undefined ? attributes : { ...attributes, sizeBytes: copy.stat().sizeBytes };
}

/** Nobody has it open, and its inode has been written to since it was looked up. */
function isOutlived({ opens, copy, isLeft }: Node): boolean {
  return opens === 0 && (copy !== undefined || isLeft);
}

/**
 * What is shown when the namespace has no answer. An inode without a name shows what it was, as an unlinked local file
 * does; and so does the version of an open handle, which needs no origin. All else fails.
 */
function knownAfter(error: unknown, node: Node): InodeAttributes {
  const own = node.attributes;
  const errno = errnoOf(error);
  const isOpenOffline = errno === Errno.ETIMEDOUT && node.opens > 0;
  if (own === undefined || (errno !== Errno.ENOENT && !isOpenOffline)) throw error;
  return own;
}

export function noEntry(validForMs: number): EntryReply {
  return { node: 0n as NodeId, entryValidForMs: validForMs, attributes: NO_ATTRIBUTES, validForMs: 0 };
}
