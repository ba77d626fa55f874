/**
 * Brings catalog and files together at start.
 *
 * Files that the catalog does not know are removed (only inside `blobs/`); rows without a file are dropped;
 * blobs that were being filled keep the blocks that were recorded; nothing counts as verified. After that, each
 * blob in the table has its file, and each file its blob.
 */
import type { VersionId } from '../lib/base/brand.ts';
import { initialBlobState, nextBlobState } from './blob.ts';
import { bodyOfRow, newBlob, usageOfRow } from './blob-row.ts';
import type { BlobTable } from './blob-table.ts';
import { BlockGeometry, chargeOf } from './block-map.ts';
import type { Catalog, LeanRow } from './catalog.ts';
import type { Disk } from './disk.ts';
import type { Shards } from './shards.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import { blobPath, type CachePaths, shardPath, SHARDS } from './format.ts';

export interface RecoveryReport {
  readonly blobs: number;
  readonly completeBlobs: number;
  readonly removedFiles: number;
  readonly droppedRows: number;
}

export function recover(options: {
  readonly paths: CachePaths;
  readonly disk: Disk;
  readonly catalog: Catalog;
  readonly table: BlobTable;
  readonly policy: EvictionPolicy;
  readonly shards: Shards;
}): RecoveryReport {
  const { paths, disk, catalog, table, policy } = options;
  const files = new Set<string>();
  for (const directory of [paths.trash, ...everyShard(paths)]) {
    for (const { name, isFile } of disk.list(directory) ?? []) if (isFile) files.add(`${directory}/${name}`);
  }
  const dropped: string[] = [];
  for (const row of catalog.lean()) {
    if (!files.delete(blobPath(paths, { shard: row.shard, version: row.version as VersionId }))) {
      dropped.push(row.version);
      continue;
    }
    adopt(row, options);
    options.shards.adopt(row.shard);
    policy.restore(row.version, usageOfRow(row));
  }
  for (const path of files) disk.unlink(path);
  catalog.commit({ upserts: [], durable: [], usages: [], removals: dropped, settings: {} });
  return {
    blobs: table.size,
    completeBlobs: table.completeBlobs,
    removedFiles: files.size,
    droppedRows: dropped.length,
  };
}

function adopt(
  row: LeanRow,
  options: { paths: CachePaths; disk: Disk; catalog: Catalog; table: BlobTable },
): void {
  const version = row.version as VersionId;
  const blob = newBlob({ version, sizeBytes: row.size_bytes, blockBytes: row.block_bytes, shard: row.shard });
  blob.recorded = true;
  blob.pinned = row.pinned === 1;
  if (row.state === 'complete') {
    blob.chargedBytes = new BlockGeometry(row.size_bytes, row.block_bytes).chargeAll();
    blob.state = nextBlobState(initialBlobState(), 'restored');
  } else {
    // A lost block keeps its charge, and what a fill left behind has one, too: whichever is more.
    const { present, geometry } = bodyOfRow(options.catalog.get(version)!);
    blob.chargedBytes = Math.max(
      options.disk.allocatedBytes(blobPath(options.paths, blob)),
      chargeOf(present, geometry),
    );
  }
  options.table.adopt(blob);
}

function everyShard(paths: CachePaths): string[] {
  return Array.from({ length: SHARDS }, (_, shard) => shardPath(paths, shard));
}
