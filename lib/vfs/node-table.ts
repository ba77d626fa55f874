/**
 * The nodes that the kernel knows, with exact lookup counts.
 *
 * A file's node stands for (inode, version, I/O mode): the kernel refuses to mix passthrough and served handles of one
 * node, so a file whose node is open in one mode and can be opened in the other gets a second node, with the same
 * st_ino. While a file is being written its node stands for the working copy instead: one that nobody has open becomes
 * the copy's, all others are left to their handles. Directories and symlinks have one node an inode. Node ids are never
 * used twice.
 *
 * Invariants: a node lives while the kernel holds lookups of it or something here holds it (an open, a pending open, a
 * directory stream), and not longer; the root lives for ever; a node's inode, kind and version never change, nor its
 * working copy once it has one.
 */
import { ROOT_NODE, type InodeNumber, type NodeId, type VersionId } from '../base/brand.ts';
import type { CacheHandle } from '../../cache/block-cache.ts';
import type { WorkingCopy } from '../../cache/working-copy.ts';
import { invariant } from '../base/errors.ts';
import type { BackingFile } from '../fuse/operations.ts';
import type { InodeAttributes, InodeKind } from '../namespace/namespace.ts';
import type { OwnSubject } from '../policy/policy.ts';

/**
 * - `idle`: no handle is open; the next open chooses
 * - `served`: handles are open, and their reads come to us
 * - `passthrough`: handles are open, and the kernel reads the blob
 */
export type NodeMode = 'idle' | 'served' | 'passthrough';

export interface Node {
  readonly id: NodeId;
  readonly inode: InodeNumber;
  readonly kind: InodeKind;
  /** Files only; undefined of one that had none yet when it was made. */
  readonly version: VersionId | undefined;
  /** What it stands for instead of the version, since a write of its file began. */
  copy: WorkingCopy | undefined;
  /** A write of its file began while it was open: no lookup answers with it any more. */
  isLeft: boolean;
  /** No name is left of its inode. */
  isGone: boolean;
  /** Of this node's version, as the namespace last told; undefined only for the root before its first answer. */
  attributes: InodeAttributes | undefined;
  /** The question that `attributes` answers, in the order of questions. */
  asked: number;
  /** The kernel was never allowed to remember a name of this node: each walk along a path looks it up again. */
  isLookedUpEachTime: boolean;
  /** Until when the kernel may use its attributes, and the names below it; 0: not at all. */
  attributesUntilMs: number;
  entriesUntilMs: number;
  /** Of a directory: the kernel may keep its listing; how often a name in it was dropped. */
  isListingKept: boolean;
  drops: number;
  /** Where it was last looked up. */
  parent: Node | undefined;
  name: string;
  lookups: number;
  /** Opens, pending opens and directory streams. */
  holds: number;
  /** Handles of the file that the kernel was given. */
  opens: number;
  mode: NodeMode;
  /** Of the cache, shared by all opens of the node, pending ones included. */
  cached: CacheHandle | undefined;
  /** What the kernel was given; the same for all opens while the mode is passthrough. */
  backing: BackingFile | undefined;
}

/** Where and how a name was found. */
export interface Entry {
  readonly parent: Node;
  readonly name: string;
  /** When the namespace was asked, in the order of questions; 0 for an answer of unknown age. */
  readonly asked: number;
  readonly validForMs: number;
  /** Of a file that is being written. */
  readonly copy?: WorkingCopy | undefined;
}

export interface NodeTableOptions {
  readonly rootInode: InodeNumber;
  /** Of a node that is open: whether a new node would be opened otherwise, or over another blob. */
  readonly isOutdated: (node: Node) => boolean;
}

const NO_NODES: readonly Node[] = [];

export class NodeTable {
  readonly root: Node;
  readonly #isOutdated: (node: Node) => boolean;
  readonly #nodes = new Map<NodeId, Node>();
  readonly #byInode = new Map<InodeNumber, Node[]>();
  #lastId: bigint = ROOT_NODE;

  constructor(options: NodeTableOptions) {
    this.#isOutdated = options.isOutdated;
    this.root = newNode(ROOT_NODE, { inode: options.rootInode, kind: 'directory' });
    this.root.lookups = 1;
    this.#add(this.root);
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(id: NodeId): Node | undefined {
    return this.#nodes.get(id);
  }

  ofInode(inode: InodeNumber): readonly Node[] {
    return this.#byInode.get(inode) ?? NO_NODES;
  }

  all(): IterableIterator<Node> {
    return this.#nodes.values();
  }

  /** Finds or makes the node for what a name was found to be, and counts one lookup of it. */
  enter(attributes: InodeAttributes, at: Entry): Node {
    let node = this.#find(attributes, at.copy);
    if (node === undefined) {
      node = newNode(++this.#lastId as NodeId, {
        inode: attributes.inode,
        kind: attributes.kind,
        ...(attributes.source && { version: attributes.source.version }),
      });
      node.copy = at.copy;
      this.#add(node);
    }
    // Answers can overtake each other: the question that was asked last wins.
    if (at.asked >= node.asked) {
      node.attributes = attributes;
      node.asked = at.asked;
    }
    if (at.validForMs > 0) node.isLookedUpEachTime = false;
    if (node !== this.root) {
      node.parent = at.parent;
      node.name = at.name;
      node.lookups += 1;
    }
    return node;
  }

  /** Gives back lookups. False if the kernel gave back more than it was given: a fault of the driver. */
  forget(id: NodeId, count: bigint): boolean {
    const node = this.#nodes.get(id);
    if (node === undefined) return false;
    if (node === this.root) return true;
    const exact = count <= BigInt(node.lookups);
    node.lookups = exact ? node.lookups - Number(count) : 0;
    this.#removeIfUnused(node);
    return exact;
  }

  /** Makes a node that has no handles the one of a working copy, and leaves all others of the inode to theirs. */
  become(node: Node, copy: WorkingCopy): void {
    invariant(node.copy === undefined, 'a node is of one working copy');
    node.copy = copy;
    this.leave(node.inode, copy);
  }

  /** No lookup answers with nodes of this inode any more, but for those of the copy. */
  leave(inode: InodeNumber, copy: WorkingCopy): void {
    for (const node of this.ofInode(inode)) if (node.copy !== copy) node.isLeft = true;
  }

  hold(node: Node): void {
    node.holds += 1;
  }

  unhold(node: Node): void {
    node.holds -= 1;
    this.#removeIfUnused(node);
  }

  /**
   * The node to answer with: one that is open in passthrough, else an idle one (the newest, so that answers do not
   * alternate), else one that is served. What is outdated is left to its handles.
   */
  #find(attributes: InodeAttributes, copy: WorkingCopy | undefined): Node | undefined {
    let idle: Node | undefined;
    let served: Node | undefined;
    for (const node of this.#byInode.get(attributes.inode) ?? []) {
      if (node.copy !== copy || node.isLeft || node.kind !== attributes.kind) continue;
      if (copy !== undefined) return node;
      if (node.version !== attributes.source?.version) continue;
      if (node.mode === 'idle') idle = node;
      else if (this.#isOutdated(node)) continue;
      else if (node.mode === 'passthrough') return node;
      else served = node;
    }
    return idle ?? served;
  }

  #add(node: Node): void {
    this.#nodes.set(node.id, node);
    const siblings = this.#byInode.get(node.inode);
    if (siblings === undefined) this.#byInode.set(node.inode, [node]);
    else siblings.push(node);
  }

  #removeIfUnused(node: Node): void {
    if (node.lookups > 0 || node.holds > 0) return;
    this.#nodes.delete(node.id);
    const siblings = this.#byInode.get(node.inode);
    if (siblings === undefined) return;
    const left = siblings.filter((other) => other !== node);
    if (left.length === 0) this.#byInode.delete(node.inode);
    else this.#byInode.set(node.inode, left);
  }
}

/** Directories moved under each other between lookups can look like a ring for a while. */
const PATH_NAMES_MAX = 1024;

/** The path in the export, by the names under which it was last looked up. */
export function pathOf(node: Node): string {
  const names: string[] = [];
  let at = node;
  while (at.parent !== undefined && names.length < PATH_NAMES_MAX) {
    names.push(at.name);
    at = at.parent;
  }
  return names.reverse().join('/');
}

/** As policies know it. */
export function policySubjectOf(node: Node): OwnSubject {
  const path = pathOf(node);
  if (node.kind !== 'directory') return { path, sizeBytes: node.attributes?.sizeBytes };
  return { path: path === '' ? '' : `${path}/`, sizeBytes: undefined };
}

function newNode(
  id: NodeId,
  of: { readonly inode: InodeNumber; readonly kind: InodeKind; readonly version?: VersionId },
): Node {
  return {
    id,
    inode: of.inode,
    kind: of.kind,
    version: of.version,
    copy: undefined,
    isLeft: false,
    isGone: false,
    attributes: undefined,
    asked: 0,
    isLookedUpEachTime: true,
    attributesUntilMs: 0,
    entriesUntilMs: 0,
    isListingKept: false,
    drops: 0,
    parent: undefined,
    name: '',
    lookups: 0,
    holds: 0,
    opens: 0,
    mode: 'idle',
    cached: undefined,
    backing: undefined,
  };
}
