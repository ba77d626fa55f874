/** Between a blob in memory and its row in the catalog. */
import type { InodeNumber, VersionId } from '../lib/base/brand.ts';
import { invariant } from '../lib/base/errors.ts';
import type { OpenVersion } from './block-cache.ts';
import { type Blob, type BlobBody, initialBlobState } from './blob.ts';
import { BlockGeometry, BlockSet } from './block-map.ts';
import type { BlobRow, UsageRow } from './catalog.ts';
import type { Usage } from './eviction-policy.ts';
import { KEEP_AS_USUAL } from './keeping.ts';

/** Why a blob was let in; the only reason until policies give others. */
const ADMISSION_FIRST_MISS = 'first-miss';

export function newBlob(options: {
  readonly version: VersionId;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly shard: number;
}): Blob {
  return {
    version: options.version,
    sizeBytes: options.sizeBytes,
    blockBytes: options.blockBytes,
    shard: options.shard,
    state: initialBlobState(),
    body: undefined,
    chargedBytes: 0,
    handles: 0,
    passthroughs: 0,
    holds: 0,
    expectations: 0,
    pinned: false,
    keeping: KEEP_AS_USUAL,
    pinnedByPolicy: false,
    unrecorded: false,
    recorded: false,
  };
}

export function newBody(opened: OpenVersion, geometry: BlockGeometry): BlobBody {
  return {
    source: opened.source,
    inode: opened.inode,
    path: opened.path,
    geometry,
    present: new BlockSet(geometry.blocks),
    verified: new BlockSet(geometry.blocks),
    charged: new BlockSet(geometry.blocks),
    checksums: new Uint32Array(geometry.blocks),
    fills: new Map(),
    checks: new Map(),
    touched: new Set(),
    fd: undefined,
  };
}

/** The body as the catalog remembers it; nothing in it counts as verified. */
export function bodyOfRow(row: BlobRow): BlobBody {
  const geometry = new BlockGeometry(row.size_bytes, row.block_bytes);
  invariant(row.checksums.byteLength === geometry.blocks * 4, 'the catalog has one checksum for each block');
  const checksums = new Uint32Array(geometry.blocks);
  const view = new DataView(row.checksums.buffer, row.checksums.byteOffset, row.checksums.byteLength);
  for (let block = 0; block < geometry.blocks; block++) checksums[block] = view.getUint32(block * 4, true);
  return {
    source: {
      version: row.version as VersionId,
      exportName: row.export_name,
      objectKey: row.object_key,
      objectVersion: row.object_version ?? undefined,
      entityTag: row.entity_tag,
      sizeBytes: row.size_bytes,
    },
    inode: BigInt(row.inode) as InodeNumber,
    path: row.path,
    geometry,
    present: new BlockSet(geometry.blocks, Uint8Array.from(row.present)),
    verified: new BlockSet(geometry.blocks),
    charged: new BlockSet(geometry.blocks, Uint8Array.from(row.present)),
    checksums,
    fills: new Map(),
    checks: new Map(),
    touched: new Set(),
    fd: undefined,
  };
}

export function rowOf(blob: Blob, usage: Usage | undefined): BlobRow {
  const body = blob.body;
  invariant(body !== undefined, 'a blob that is to be recorded has its body');
  const { source, geometry } = body;
  const checksums = new Uint8Array(geometry.blocks * 4);
  const view = new DataView(checksums.buffer);
  for (let block = 0; block < geometry.blocks; block++)
    view.setUint32(block * 4, body.checksums[block]!, true);
  return {
    version: blob.version,
    export_name: source.exportName,
    inode: body.inode.toString(),
    path: body.path,
    object_key: source.objectKey,
    object_version: source.objectVersion ?? null,
    entity_tag: source.entityTag,
    size_bytes: blob.sizeBytes,
    block_bytes: blob.blockBytes,
    shard: blob.shard,
    state: blob.state.kind === 'complete' && blob.state.durable ? 'complete' : 'filling',
    present: Uint8Array.from(body.present.bits),
    checksums,
    pinned: blob.pinned ? 1 : 0,
    admission: ADMISSION_FIRST_MISS,
    ...usageRow(usage),
  };
}

export function usageRow(usage: Usage | undefined): UsageRow {
  return {
    uses: usage?.uses ?? 0,
    gaps: usage?.gaps ?? 0,
    gap_bytes: usage?.gapBytes ?? 0,
    used_at_bytes: usage?.usedAtBytes ?? 0,
  };
}

export function usageOfRow(row: UsageRow): Usage {
  return { uses: row.uses, gaps: row.gaps, gapBytes: row.gap_bytes, usedAtBytes: row.used_at_bytes };
}
