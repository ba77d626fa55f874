/**
 * The calls of satellites. Each request is validated, answered by the export's tree, counted and timed; what goes
 * wrong leaves as a code and a hint (lib/rpc/rpc-errors.ts), and what is our own fault also as a log line.
 */
import { type Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { LIST_PAGE_ENTRIES } from '../base/limits.ts';
import type { OriginService } from '../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../rpc/unary-handler.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Access } from './access.ts';
import type { NamespaceIndex } from './namespace-index.ts';
import { PROTOCOL_VERSION } from '../rpc/protocol-version.ts';
import { OriginError } from './origin.ts';
import { findExport, type ServedExport, toMessage } from './served-export.ts';

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
  const { exports, index, logger } = context;
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
          // Nothing writes yet.
          readOnly: true,
          root: toMessage(root, options),
        };
      }),
    lookup: (request) =>
      answer('Lookup', async () => {
        const { tree, options } = findExport(exports, request.exportName);
        const found = await tree.lookup(inodeNumber(request.parent), request.name);
        return found === undefined ? {} : { inode: toMessage(found, options) };
      }),
    getAttributes: (request) =>
      answer('GetAttributes', async () => {
        const { tree, options } = findExport(exports, request.exportName);
        return { inode: toMessage(await tree.attributes(inodeNumber(request.inode)), options) };
      }),
    listDirectory: (request) =>
      answer('ListDirectory', async () => {
        const { tree, options } = findExport(exports, request.exportName);
        const { entries, more } = await tree.list(inodeNumber(request.directory), {
          after: request.after,
          entriesMax: Math.min(Math.max(request.entriesMax, 1), LIST_PAGE_ENTRIES),
        });
        return {
          entries: entries.map((entry) => ({ name: entry.name, inode: toMessage(entry, options) })),
          more,
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

function inodeNumber(inode: bigint): number {
  if (inode > 0n && inode <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(inode);
  throw new OriginError('not-found', `inode ${inode} is gone`);
}
