/**
 * Names nodes by path, for drivers whose library knows only paths: every part is looked up through the operations,
 * and given back when the use of the path ends. Nothing is remembered between two walks.
 */
import { ROOT_NODE, type NodeId } from '../base/brand.ts';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import { Errno } from './errno.ts';
import {
  ErrnoError,
  type AttributesReply,
  type FileSystemOperations,
  type RequestContext,
} from './operations.ts';

/** Parts of a path: PATH_MAX allows no more of them. */
const PARTS_MAX = 2048;

export interface WalkedNode {
  readonly node: NodeId;
  /** As the last lookup showed them; undefined for the root. */
  readonly attributes: AttributesReply | undefined;
}

export class PathWalker {
  readonly #operations: FileSystemOperations;

  constructor(operations: FileSystemOperations) {
    this.#operations = operations;
  }

  /** Looks a path up and keeps one lookup of its node: give it back with `release`. @throws ErrnoError */
  async walk(path: string, context: RequestContext): Promise<WalkedNode> {
    const parts = path.split('/').filter((part) => part !== '');
    if (parts.length > PARTS_MAX) throw new ErrnoError(Errno.ENAMETOOLONG, 'path too deep');
    let at: WalkedNode = { node: ROOT_NODE, attributes: undefined };
    for (const part of parts) {
      const parent = at.node;
      try {
        at = await this.#child(parent, part, context);
      } finally {
        this.release(parent);
      }
    }
    return at;
  }

  /** Walks to a node, uses it and gives it back. */
  async with<T>(path: string, context: RequestContext, use: (walked: WalkedNode) => Promise<T>): Promise<T> {
    const walked = await this.walk(path, context);
    try {
      return await use(walked);
    } finally {
      this.release(walked.node);
    }
  }

  release(node: NodeId): void {
    if (node !== ROOT_NODE) this.#operations.forget(node, 1n);
  }

  async #child(parent: NodeId, part: string, context: RequestContext): Promise<WalkedNode> {
    const name = Buffer.from(part);
    if (name.length > NAME_BYTES_MAX) throw new ErrnoError(Errno.ENAMETOOLONG, 'name longer than 255 bytes');
    const entry = await this.#operations.lookup(parent, name, context);
    if (entry.node === 0n) throw new ErrnoError(Errno.ENOENT, 'no such name');
    return { node: entry.node, attributes: entry };
  }
}
