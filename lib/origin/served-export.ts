/** One export while it is served: its configuration, its place in the index, its store, its tree, what changes it. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { InodeSchema } from '../rpc/gen/origin_pb.js';
import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { ChangedName } from './changes/change-gate.ts';
import { Commits } from './changes/commit.ts';
import { DirectoryTimes } from './changes/directory-times.ts';
import { ExportLeases, LEASE_SETTINGS_DEFAULT, type LeaseSettings } from './leases/export-leases.ts';
import type { ExportOptions } from './export-options.ts';
import { ExportTree } from './tree/export-tree.ts';
import type { IndexedExport, IndexedInode } from './index/index-rows.ts';
import { Leftovers } from './changes/leftovers.ts';
import { NameChanges } from './changes/name-changes.ts';
import type { NamespaceIndex } from './index/namespace-index.ts';
import { OriginError } from './origin.ts';
import { Relocation } from './changes/relocation.ts';
import { Revalidation } from './tree/revalidation.ts';
import { StoreCalls } from './tree/store-calls.ts';
import { Uploads } from './changes/uploads.ts';
import { WriteSeats } from './changes/write-seats.ts';
import { WRITE_WAIT_MS_DEFAULT, Writes } from './changes/writes.ts';
import { parseExtended } from './tree/extended-attributes.ts';

export interface ServedExport {
  readonly options: ExportOptions;
  readonly indexed: IndexedExport;
  readonly store: StoreCalls;
  readonly tree: ExportTree;
  readonly leases: ExportLeases;
  readonly uploads: Uploads;
  readonly names: NameChanges;
  readonly writes: Writes;
  readonly seats: WriteSeats;
  readonly revalidation: Revalidation;
  close(): Promise<void>;
}

export async function openServedExport(
  options: ExportOptions,
  parts: {
    readonly index: NamespaceIndex;
    readonly openStore: (url: string) => ObjectStore;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
    /** None: the usual. */
    readonly leases?: LeaseSettings;
    /** How long a satellite waits for another's write; none: the usual. */
    readonly writeWaitMs?: number;
  },
): Promise<ServedExport> {
  const { index, clock, logger, metrics } = parts;
  const store = new StoreCalls({ store: parts.openStore(options.storeUrl), clock, metrics });
  const indexed = await index.openExport(options.name, { identity: options.identity, nowMs: clock.wallMs() });
  const { exportId } = indexed;
  const gate = new ExportLeases({
    exportId,
    exportName: options.name,
    index,
    settings: parts.leases ?? LEASE_SETTINGS_DEFAULT,
    describe: (name) => describe(name, { exportId, index, options }),
    clock,
    logger,
    metrics,
  });
  const shared = { exportId, index, store, gate, clock, logger, metrics };
  const leftovers = new Leftovers(shared);
  const tree = new ExportTree({ ...shared, options, occupied: leftovers });
  const revalidation = new Revalidation({
    ...shared,
    probe: tree.probe,
    facts: tree.facts,
    revalidateMs: options.revalidateMs,
  });
  tree.watchDirectories({
    used: (directory) => revalidation.soon(directory),
    listed: (directory) => revalidation.listed(directory),
  });
  const seats = new WriteSeats({ ...shared, sessions: gate });
  const changing = { ...shared, tree, leftovers, times: new DirectoryTimes(shared), seats };
  const commits = new Commits(changing);
  const uploads = new Uploads({ ...changing, commits });
  const names = new NameChanges(changing);
  const writeWaitMs = parts.writeWaitMs ?? WRITE_WAIT_MS_DEFAULT;
  const writes = new Writes({ ...changing, uploads, commits, writeWaitMs });
  gate.watchSessions({
    succeeded: (earlier, session) => writes.succeed(earlier, session),
    gone: (session) => seats.sessionGone(session),
  });
  const relocation = new Relocation({ ...changing, isCommitting: (key) => commits.isCommitting(key) });
  commits.start();
  leftovers.start((leftover, signal) => relocation.run(leftover, signal));
  return {
    options,
    indexed,
    store,
    tree,
    leases: gate,
    uploads,
    names,
    writes,
    seats,
    revalidation,
    async close() {
      gate.close();
      await Promise.all([uploads.close(), leftovers.close()]);
      await store.close();
    },
  };
}

/** @throws OriginError `not-found` */
export function findExport(exports: ReadonlyMap<string, ServedExport>, name: string): ServedExport {
  const found = exports.get(name);
  if (found !== undefined) return found;
  throw new OriginError('not-found', `there is no export "${name.slice(0, 64)}"`, {
    hint: `this origin serves ${[...exports.keys()].join(', ')}`,
  });
}

/** A row that only its object could complete, and an absence from a directory that was not listed, are not certain. */
async function describe(
  { directory, name }: ChangedName,
  from: { readonly exportId: number; readonly index: NamespaceIndex; readonly options: ExportOptions },
): Promise<MessageInitShape<typeof InodeSchema> | 'gone' | 'unknown'> {
  const { exportId, index, options } = from;
  const key = { exportId, directory };
  const row = await (name === '' ? index.inode(exportId, directory) : index.child(key, name));
  if (row === undefined) return (await index.directory(key))?.state === 'listed' ? 'gone' : 'unknown';
  const isCertain =
    row.resolved ||
    (row.kind === 'file' && options.attributes === 'list' && (row.version?.sizeBytes ?? 0) > 0);
  return isCertain ? toMessage(row, options) : 'unknown';
}

/** For changes. @throws OriginError `not-found`, `read-only` */
export function findWritable(exports: ReadonlyMap<string, ServedExport>, name: string): ServedExport {
  const found = findExport(exports, name);
  if (!found.options.readOnly) return found;
  throw new OriginError('read-only', `the export ${name} takes no changes`, {
    hint: 'its URL at the origin says readOnly=true',
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
    ...(inode.extended === undefined ? {} : { extended: parseExtended(inode.extended) }),
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
