/** What statfs shows of an export. Pure. */
import { MIB, NAME_BYTES_MAX } from '../base/limits.ts';
import type { FileSystemStatistics } from '../fuse/operations.ts';
import type { ExportUsage } from '../namespace/namespace.ts';

const BLOCK_BYTES = MIB;

export function statisticsOf(usage: ExportUsage): FileSystemStatistics {
  const blocksFree = unused(usage.bytesTotal, usage.bytesUsed) / BigInt(BLOCK_BYTES);
  return {
    blocks: usage.bytesTotal / BigInt(BLOCK_BYTES),
    blocksFree,
    blocksAvailable: blocksFree,
    files: usage.inodesTotal,
    filesFree: unused(usage.inodesTotal, usage.inodesUsed),
    blockBytes: BLOCK_BYTES,
    fragmentBytes: BLOCK_BYTES,
    nameBytesMax: NAME_BYTES_MAX,
  };
}

function unused(total: bigint, used: bigint): bigint {
  return total > used ? total - used : 0n;
}
