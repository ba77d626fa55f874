/**
 * Brings catalog and files together at start.
 *
 * Files that the catalog does not know are removed (only inside `blobs/`); rows without a file are dropped;
 * blobs that were being filled keep the blocks that were recorded; nothing counts as verified. After that, each
 * blob in the table has its file, and each file its blob.
 */
import type { VersionId } from '../lib/base/brand.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import { initialBlobState, nextBlobState } from './blob.ts';
import { newBlob, usageOfRow } from './blob-row.ts';
import type { BlobTable } from './blob-table.ts';
import { BlockGeometry } from './block-map.ts';
import type { Catalog, LeanRow } from './catalog.ts';
import type { Disk } from './disk.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import { blobPath, type CachePaths, shardNames } from './format.ts';

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
  readonly logger: Logger;
}): RecoveryReport {
  const { paths, disk, catalog, table, policy } = options;
  const files = new Set<string>();
  let removedFiles = removeFiles(disk, paths.trash);
  for (const shard of shardNames()) {
    for (const { name, isFile } of disk.list(`${paths.blobs}/${shard}`) ?? []) {
      if (isFile && name.startsWith(shard)) files.add(name);
      else if (isFile) removedFiles += removeFile(disk, `${paths.blobs}/${shard}/${name}`);
    }
  }
  const dropped: string[] = [];
  for (const row of catalog.lean()) {
    if (!files.delete(row.version)) {
      dropped.push(row.version);
      continue;
    }
    adopt(row, options);
    policy.restore(row.version, usageOfRow(row));
  }
  for (const name of files) removedFiles += removeFile(disk, blobPath(paths, name as VersionId));
  catalog.commit({ upserts: [], durable: [], usages: [], removals: dropped, settings: {} });
  return { blobs: table.size, completeBlobs: table.completeBlobs, removedFiles, droppedRows: dropped.length };
}

function adopt(row: LeanRow, options: { paths: CachePaths; disk: Disk; table: BlobTable }): void {
  const version = row.version as VersionId;
  const blob = newBlob({ version, sizeBytes: row.size_bytes, blockBytes: row.block_bytes });
  blob.recorded = true;
  blob.pinned = row.pinned === 1;
  if (row.state === 'complete') {
    blob.chargedBytes = new BlockGeometry(row.size_bytes, row.block_bytes).chargeAll();
    blob.state = nextBlobState(initialBlobState(), 'restored');
  } else {
    blob.chargedBytes = options.disk.allocatedBytes(blobPath(options.paths, version));
  }
  options.table.adopt(blob);
}

function removeFiles(disk: Disk, directory: string): number {
  let removed = 0;
  for (const { name, isFile } of disk.list(directory) ?? []) {
    if (isFile) removed += removeFile(disk, `${directory}/${name}`);
  }
  return removed;
}

function removeFile(disk: Disk, path: string): number {
  disk.unlink(path);
  return 1;
}
