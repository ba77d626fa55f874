/**
 * Where the parts of a multipart upload lie: parts grow, so that content of unknown length and any size fits the number
 * of parts that stores take, and small content is still sent by several requests at once.
 *
 * Invariants: part n begins where part n - 1 ends; every part but the last holds a whole number of blocks.
 */
import { invariant } from '../base/errors.ts';
import { MIB } from '../base/limits.ts';

export const PART_BYTES_FIRST = 8 * MIB;
/** After so many parts they are twice as large: 10,000 parts hold 4 PiB. */
const PARTS_OF_A_SIZE = 500;

export interface PartRange {
  /** From 1. */
  readonly number: number;
  readonly offset: number;
  readonly length: number;
}

/** A part that is not the last. @param firstBytes of the first part, at least PART_BYTES_FIRST */
export function partAt(number: number, firstBytes = PART_BYTES_FIRST): PartRange {
  invariant(number >= 1, 'parts are counted from 1');
  const doublings = Math.floor((number - 1) / PARTS_OF_A_SIZE);
  const length = firstBytes * 2 ** doublings;
  const before = firstBytes * PARTS_OF_A_SIZE * (2 ** doublings - 1);
  return { number, offset: before + ((number - 1) % PARTS_OF_A_SIZE) * length, length };
}

/** Of content of this size; none if it is empty. */
export function* partsOf(sizeBytes: number, firstBytes = PART_BYTES_FIRST): Generator<PartRange> {
  for (let number = 1; ; number++) {
    const { offset, length } = partAt(number, firstBytes);
    if (offset >= sizeBytes) return;
    yield { number, offset, length: Math.min(length, sizeBytes - offset) };
  }
}

/** The size of the first part of content whose blocks are this large. */
export function firstPartBytes(blockBytes: number): number {
  return Math.ceil(PART_BYTES_FIRST / blockBytes) * blockBytes;
}
