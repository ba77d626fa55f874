/**
 * One version's bytes on NVMe and the states it goes through.
 *
 * A `Blob` is the lean part that stays in memory for every cached version; its `BlobBody` (where the bytes come
 * from, block maps, checksums, descriptor) is there only while somebody has it open, it is being filled, or the
 * catalog has not recorded it yet.
 *
 * States:
 * - `filling`: some blocks may be missing; served block by block
 * - `complete`: every block is present. `verified`: checked since this process started, so it may be handed to
 *   the kernel. `durable`: on the device, so the catalog may say complete
 * - `evicting`: its file has no name any more; whoever holds it keeps reading what it has, nothing is written
 *
 * An illegal transition stops the process: it means that bytes could be served that nobody vouches for.
 */
import type { InodeNumber, VersionId } from '../lib/base/brand.ts';
import { InvariantError } from '../lib/base/errors.ts';
import type { VersionSource } from '../lib/tiers/tier.ts';
import type { BlockGeometry, BlockSet } from './block-map.ts';
import type { Fill } from './fill.ts';
import type { Keeping } from './keeping.ts';

export type BlobState =
  | { readonly kind: 'filling' }
  | { readonly kind: 'complete'; readonly verified: boolean; readonly durable: boolean }
  | { readonly kind: 'evicting' };

/**
 * - `filled`: the last missing block arrived (so every block was verified by its arrival, or before)
 * - `restored`: recorded complete by an earlier run
 * - `verified`: every block was compared with its checksum
 * - `durable`: the device has every byte
 * - `block-lost`: a block does not match its checksum or cannot be read
 * - `evict`: its name is removed
 */
export type BlobEvent = 'filled' | 'restored' | 'verified' | 'durable' | 'block-lost' | 'evict';

const FILLING: BlobState = { kind: 'filling' };
const EVICTING: BlobState = { kind: 'evicting' };
const COMPLETE: Record<'00' | '01' | '10' | '11', BlobState> = {
  '00': { kind: 'complete', verified: false, durable: false },
  '01': { kind: 'complete', verified: false, durable: true },
  '10': { kind: 'complete', verified: true, durable: false },
  '11': { kind: 'complete', verified: true, durable: true },
};

function complete(verified: boolean, durable: boolean): BlobState {
  return COMPLETE[`${verified ? 1 : 0}${durable ? 1 : 0}`];
}

export function initialBlobState(): BlobState {
  return FILLING;
}

export function nextBlobState(state: BlobState, event: BlobEvent): BlobState {
  switch (state.kind) {
    case 'filling':
      if (event === 'filled') return complete(true, false);
      if (event === 'restored') return complete(false, true);
      if (event === 'block-lost') return state;
      if (event === 'evict') return EVICTING;
      break;
    case 'complete':
      if (event === 'verified') return complete(true, state.durable);
      if (event === 'durable') return complete(state.verified, true);
      if (event === 'block-lost') return FILLING;
      if (event === 'evict') return EVICTING;
      break;
    case 'evicting':
      if (event === 'block-lost') return state;
      break;
  }
  throw new InvariantError(`a blob cannot go from ${state.kind} by ${event}`);
}

/** What a comparison with its checksum says of a block; `missing`: it has no file any more. */
export type BlockCheck = 'good' | 'bad' | 'missing';

export interface BlobBody {
  /** Where missing bytes come from. */
  source: VersionSource;
  inode: InodeNumber;
  path: string;
  readonly geometry: BlockGeometry;
  readonly present: BlockSet;
  /** Present, and compared with its checksum since this process started. */
  readonly verified: BlockSet;
  /** Blocks whose space is accounted for: present ones, and ones that a failed fill may have left behind. */
  readonly charged: BlockSet;
  readonly checksums: Uint32Array;
  /** Blocks on their way. */
  readonly fills: Map<number, Fill>;
  /** Comparisons with checksums in progress. */
  readonly checks: Map<number, Promise<BlockCheck>>;
  /** Blocks of which a small range was read around the blob, so that a second touch fills them. */
  readonly touched: Set<number>;
  fd: number | undefined;
}

export interface Blob {
  readonly version: VersionId;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Folder of its file. */
  readonly shard: number;
  state: BlobState;
  body: BlobBody | undefined;
  /** Bytes of disk that it may take now. */
  chargedBytes: number;
  handles: number;
  /** Handles that asked for the descriptor, so that the kernel may be reading by itself. */
  passthroughs: number;
  /** Verifications and other work in progress that must not lose the file. */
  holds: number;
  /** Handles of those who say that it will be read soon, whatever its own record says. */
  expectations: number;
  pinned: boolean;
  /** By policy; see keepings.ts. */
  keeping: Keeping;
  pinnedByPolicy: boolean;
  /** The catalog does not have its latest state yet. */
  unrecorded: boolean;
  /** Does any record of it exist in the catalog? */
  recorded: boolean;
}
