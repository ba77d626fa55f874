/**
 * Block arithmetic and the set of blocks that are there.
 *
 * A version of `sizeBytes` is cut into blocks of `blockBytes`; the last one may be shorter; an empty version
 * has none. Presence is one bit a block and nothing else: the size of a sparse file, or what reads back from
 * it, never says that a block is there.
 */
import { invariant } from '../lib/base/errors.ts';

/** Unit in which file systems allocate: ext4 and xfs by default. */
const ALLOCATION_BYTES = 4096;

export interface BlockSpan {
  readonly first: number;
  /** One past the last. */
  readonly end: number;
}

export class BlockGeometry {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly blocks: number;

  constructor(sizeBytes: number, blockBytes: number) {
    invariant(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'a version has a size');
    invariant(Number.isSafeInteger(blockBytes) && blockBytes > 0, 'a block has a size');
    this.sizeBytes = sizeBytes;
    this.blockBytes = blockBytes;
    this.blocks = Math.ceil(sizeBytes / blockBytes);
  }

  start(block: number): number {
    return block * this.blockBytes;
  }

  end(block: number): number {
    return Math.min((block + 1) * this.blockBytes, this.sizeBytes);
  }

  length(block: number): number {
    return this.end(block) - this.start(block);
  }

  /** Bytes of disk that a block takes. */
  charge(block: number): number {
    return Math.ceil(this.length(block) / ALLOCATION_BYTES) * ALLOCATION_BYTES;
  }

  /** Bytes of disk that the whole version takes. */
  chargeAll(): number {
    if (this.blocks === 0) return 0;
    return (this.blocks - 1) * this.charge(0) + this.charge(this.blocks - 1);
  }

  /** The blocks that [offset, offset + length) touches, cut at the end of the version. */
  span(offset: number, length: number): BlockSpan {
    const end = Math.min(offset + length, this.sizeBytes);
    if (offset < 0 || offset >= end) return { first: 0, end: 0 };
    return { first: Math.floor(offset / this.blockBytes), end: Math.ceil(end / this.blockBytes) };
  }
}

/** A set of block numbers below a fixed count, one bit each. */
export class BlockSet {
  readonly size: number;
  readonly bits: Uint8Array;
  #count: number;

  constructor(size: number, bits?: Uint8Array) {
    const bytes = Math.ceil(size / 8);
    invariant(bits === undefined || bits.length === bytes, 'a block map has the length of its version');
    this.size = size;
    this.bits = bits ?? new Uint8Array(bytes);
    this.#count = bits === undefined ? 0 : countBits(this.bits);
    invariant(this.#count <= size, 'a block map has no blocks beyond the end');
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count === this.size;
  }

  has(block: number): boolean {
    return (this.bits[block >> 3]! & (1 << (block & 7))) !== 0;
  }

  add(block: number): boolean {
    invariant(block >= 0 && block < this.size, 'a block lies inside its version');
    if (this.has(block)) return false;
    this.bits[block >> 3]! |= 1 << (block & 7);
    this.#count++;
    return true;
  }

  delete(block: number): boolean {
    invariant(block >= 0 && block < this.size, 'a block lies inside its version');
    if (!this.has(block)) return false;
    this.bits[block >> 3]! &= ~(1 << (block & 7));
    this.#count--;
    return true;
  }

  addAll(): void {
    this.bits.fill(0xff);
    const spare = this.bits.length * 8 - this.size;
    if (spare > 0) this.bits[this.bits.length - 1] = 0xff >> spare;
    this.#count = this.size;
  }

  /** Is every block of [first, end) in the set? */
  hasAll(first: number, end: number): boolean {
    if (this.full) return true;
    for (let block = first; block < end; block++) if (!this.has(block)) return false;
    return true;
  }
}

function countBits(bits: Uint8Array): number {
  let count = 0;
  for (const byte of bits) for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** Bytes of the blocks in a set. */
export function bytesOf(blocks: BlockSet, geometry: BlockGeometry): number {
  if (blocks.count === 0) return 0;
  const last = geometry.blocks - 1;
  const whole = blocks.has(last) ? blocks.count - 1 : blocks.count;
  return whole * geometry.blockBytes + (blocks.has(last) ? geometry.length(last) : 0);
}

/** Bytes of disk that the blocks of a set take. */
export function chargeOf(blocks: BlockSet, geometry: BlockGeometry): number {
  if (blocks.count === 0) return 0;
  const last = geometry.blocks - 1;
  const whole = blocks.has(last) ? blocks.count - 1 : blocks.count;
  return whole * geometry.charge(0) + (blocks.has(last) ? geometry.charge(last) : 0);
}
