/** One export while it is served: its configuration, its place in the index, its store, its tree. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { InodeSchema } from '../rpc/gen/origin_pb.js';
import type { ExportOptions } from './export-options.ts';
import type { ExportTree } from './export-tree.ts';
import type { IndexedExport, IndexedInode } from './index-rows.ts';
import { OriginError } from './origin.ts';
import type { StoreCalls } from './store-calls.ts';

export interface ServedExport {
  readonly options: ExportOptions;
  readonly indexed: IndexedExport;
  readonly store: StoreCalls;
  readonly tree: ExportTree;
}

/** @throws OriginError `not-found` */
export function findExport(exports: ReadonlyMap<string, ServedExport>, name: string): ServedExport {
  const found = exports.get(name);
  if (found !== undefined) return found;
  throw new OriginError('not-found', `there is no export "${name.slice(0, 64)}"`, {
    hint: `this origin serves ${[...exports.keys()].join(', ')}`,
  });
}

/** An inode as it travels: what its object does not carry comes from the export's defaults. */
export function toMessage(inode: IndexedInode, options: ExportOptions): MessageInitShape<typeof InodeSchema> {
  const { version } = inode;
  const message = {
    inode: BigInt(inode.inode),
    kind: inode.kind,
    mode: inode.mode ?? defaultMode(inode, options),
    uid: inode.uid ?? options.uid,
    gid: inode.gid ?? options.gid,
    links: inode.kind === 'directory' ? 2 : 1,
    modifiedNs: inode.modifiedNs,
    changedNs: inode.changedNs,
  };
  if (inode.kind === 'symlink') {
    const target = inode.target ?? '';
    return { ...message, sizeBytes: BigInt(Buffer.byteLength(target)), target };
  }
  if (version === undefined) return message;
  const { id, objectKey, objectVersion, entityTag, sizeBytes } = version;
  return {
    ...message,
    sizeBytes: BigInt(sizeBytes),
    version: {
      id,
      objectKey,
      entityTag,
      sizeBytes: BigInt(sizeBytes),
      ...(objectVersion === undefined ? {} : { objectVersion }),
    },
  };
}

function defaultMode({ kind }: IndexedInode, options: ExportOptions): number {
  if (kind === 'symlink') return 0o777;
  return kind === 'directory' ? options.directoryMode : options.fileMode;
}
