/**
 * The calls of satellites. Each request is validated, answered by the export's tree, counted and timed; what goes
 * wrong leaves as a code and a hint (lib/rpc/rpc-errors.ts), and what is our own fault also as a log line.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import { type Clock } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import { LIST_PAGE_ENTRIES } from '../../base/limits.ts';
import { encodeGrant } from '../../lease/lease-messages.ts';
import type { OriginService } from '../../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { Access } from './access.ts';
import { compareBytes } from '../tree/listing-order.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { PROTOCOL_VERSION } from '../../rpc/protocol-version.ts';
import { OriginError } from '../origin.ts';
import { findExport, type ServedExport, toMessage } from '../served-export.ts';

/** What an object store is said to hold at most; none of them tells. */
const USAGE_BYTES_TOTAL = 1n << 60n;
const USAGE_INODES_TOTAL = 1n << 40n;
const HOST_CHARACTERS_MAX = 255;

export interface ServiceContext {
  readonly access: Access;
  readonly exports: ReadonlyMap<string, ServedExport>;
  readonly index: NamespaceIndex;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly version: string;
}

export function createOriginService(context: ServiceContext): RpcServiceImpl<typeof OriginService> {
  const { access, exports, index, logger } = context;
  const answer = createAnswer(context);
  return {
    openExport: (request, { principal }) =>
      answer('OpenExport', async () => {
        if (request.protocolVersion !== PROTOCOL_VERSION) {
          throw new OriginError(
            'unsupported',
            `the satellite speaks protocol ${request.protocolVersion}, this origin ${PROTOCOL_VERSION}`,
            { hint: 'run the same release on both' },
          );
        }
        const { options, indexed, tree } = findExport(exports, request.exportName);
        const root = await tree.root();
        logger.info(
          { ...principal, export: options.name, saysHost: request.host.slice(0, HOST_CHARACTERS_MAX) },
          'satellite opened export',
        );
        return {
          protocolVersion: PROTOCOL_VERSION,
          exportId: indexed.publicId,
          storeUrl: options.storeUrl,
          epoch: BigInt(index.epoch),
          readOnly: options.readOnly || !access.mayWrite(principal, options.name),
          root: toMessage(root, options),
          immutable: [...options.immutable],
        };
      }),
    lookup: (request) =>
      answer('Lookup', async () => {
        const { tree, leases, options } = findExport(exports, request.exportName);
        const directory = inodeNumber(request.parent);
        const grant = await leases.grantName(request.session, { directory, name: request.name });
        const found = await tree.lookup(directory, request.name);
        return {
          ...(found === undefined ? {} : { inode: toMessage(found, options) }),
          ...(grant === undefined ? {} : { grant: encodeGrant(grant) }),
        };
      }),
    getAttributes: (request) =>
      answer('GetAttributes', async () => {
        const served = findExport(exports, request.exportName);
        const inode = inodeNumber(request.inode);
        const at = await placeOf(served, { index, inode });
        const grant = at && (await served.leases.grantName(request.session, at));
        const attributes = { inode: toMessage(await served.tree.attributes(inode), served.options) };
        const now = await placeOf(served, { index, inode });
        // It has moved between the two: the lease is on another directory's names.
        const isThere = now !== undefined && now.directory === at?.directory && now.name === at.name;
        if (grant === undefined || !isThere) return attributes;
        return { ...attributes, grant: encodeGrant(grant), parent: BigInt(now.directory), name: now.name };
      }),
    listDirectory: (request) =>
      answer('ListDirectory', async () => {
        const { tree, leases, options } = findExport(exports, request.exportName);
        const directory = inodeNumber(request.directory);
        const { after } = request;
        const { grant, withdrawn } = await leases.grantDirectory(request.session, directory);
        const { entries, more } = await tree.list(directory, {
          after,
          entriesMax: Math.min(Math.max(request.entriesMax, 1), LIST_PAGE_ENTRIES),
        });
        const last = more ? entries.at(-1)?.name : undefined;
        return {
          entries: entries.map((entry) => ({ name: entry.name, inode: toMessage(entry, options) })),
          more,
          ...(grant === undefined ? {} : { grant: encodeGrant(grant) }),
          withdrawn: withdrawn.filter((name) => isInSpan(name, { after, last })),
        };
      }),
    getUsage: (request) =>
      answer('GetUsage', async () => {
        const { indexed } = findExport(exports, request.exportName);
        const { bytes, inodes } = index.totals(indexed.exportId);
        return {
          bytesTotal: USAGE_BYTES_TOTAL,
          bytesUsed: BigInt(bytes),
          inodesTotal: USAGE_INODES_TOTAL,
          inodesUsed: BigInt(inodes),
        };
      }),
    reportStale: (request) =>
      answer('ReportStale', async () => {
        const { tree } = findExport(exports, request.exportName);
        await tree.reportStale(inodeNumber(request.inode), request.versionId);
        return {};
      }),
  };
}

/** Runs one call: counts it, times it, and turns what it throws into what travels. */
export function createAnswer(context: Pick<ServiceContext, 'clock' | 'logger' | 'metrics'>) {
  const { clock, logger, metrics } = context;
  return async <T>(method: string, run: () => Promise<T>): Promise<T> => {
    const startedMs = clock.nowMs();
    let code = 'ok';
    try {
      return await run();
    } catch (error) {
      code = rpcCodeOf(error);
      if (code === 'failed') logger.error({ err: error, method }, `call failed: ${describeError(error)}`);
      else logger.debug({ method, code }, describeError(error));
      throw toConnectError(error);
    } finally {
      metrics.originRequests.inc({ method, code });
      metrics.originRequestSeconds.observe({ method }, (clock.nowMs() - startedMs) / 1_000);
    }
  };
}

/** The name under which an inode is leased; undefined: there is no such inode. */
async function placeOf(
  { indexed }: ServedExport,
  { index, inode }: { readonly index: NamespaceIndex; readonly inode: number },
): Promise<{ readonly directory: number; readonly name: string } | undefined> {
  const row = await index.inode(indexed.exportId, inode);
  if (row === undefined) return undefined;
  return inode === Number(ROOT_INODE)
    ? { directory: inode, name: '' }
    : { directory: row.parent, name: row.name };
}

/** Undefined: the page reaches to the end. */
function isInSpan(
  name: string,
  { after, last }: { readonly after: string; readonly last: string | undefined },
): boolean {
  return compareBytes(name, after) > 0 && (last === undefined || compareBytes(name, last) <= 0);
}

/** @throws OriginError `not-found` */
export function inodeNumber(inode: bigint): number {
  if (inode > 0n && inode <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(inode);
  throw new OriginError('not-found', `inode ${inode} is gone`);
}
