/**
 * Counts the lookups that the kernel holds of each node, exactly: every entry that it was given adds one, every
 * FORGET takes away what it says. A node that is not held is never passed to an operation.
 * The root is always held and never counted.
 */
import { ROOT_NODE, type NodeId } from '../base/brand.ts';

export class NodeTable {
  readonly #lookups = new Map<NodeId, bigint>();

  get size(): number {
    return this.#lookups.size;
  }

  holds(node: NodeId): boolean {
    return node === ROOT_NODE || this.#lookups.has(node);
  }

  lookups(node: NodeId): bigint {
    return this.#lookups.get(node) ?? 0n;
  }

  hold(node: NodeId): void {
    if (node !== ROOT_NODE) this.#lookups.set(node, (this.#lookups.get(node) ?? 0n) + 1n);
  }

  /** Takes lookups away. Returns how many there really were of the `count` asked for. */
  giveBack(node: NodeId, count: bigint): bigint {
    const held = this.#lookups.get(node);
    if (held === undefined) return 0n;
    if (held > count) {
      this.#lookups.set(node, held - count);
      return count;
    }
    this.#lookups.delete(node);
    return held;
  }
}
