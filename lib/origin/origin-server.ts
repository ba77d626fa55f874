/**
 * Starts and ends an origin.
 *
 * Order of start, cheap refusals first: the exports' configuration, the data directory and its lock, the stores, the
 * address. No start, refused or not, throws away what an earlier one has indexed. A store that refuses us or is not there is an error at start; one that does not answer is a warning,
 * because it may come back while an origin that did not start does not. The epoch is durable before anything is
 * served. What failed half-way is taken down again.
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { AccessLists } from '../config/access-lists.ts';
import {
  ChangeService,
  LeaseService,
  OriginAdminService,
  OriginService,
  PolicyService,
  WriteService,
} from '../rpc/gen/origin_pb.js';
import type { EventAnswer } from '../rpc/event-server.ts';
import { type ListenAddress, startRpcServer } from '../rpc/rpc-server.ts';
import type { ServerCredentialFiles } from '../rpc/server-credentials.ts';
import { rpcService } from '../rpc/unary-handler.ts';
import { type ObjectStore, StoreError, type StoreErrorCode } from '../store/object-store.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { createAccess } from './services/access.ts';
import { createChangeService } from './services/change-service.ts';
import { prepareDataDirectory } from './data-directory.ts';
import type { LeaseSettings } from './leases/export-leases.ts';
import { EventEndpoint } from './changes/event-endpoint.ts';
import { parseExports } from './export-options.ts';
import { createLeaseService } from './services/lease-service.ts';
import { NamespaceIndex } from './index/namespace-index.ts';
import { createOriginAdminService } from './services/origin-admin-service.ts';
import { createOriginService } from './services/origin-service.ts';
import { type ExportConfiguration, OriginError } from './origin.ts';
import { createPolicyService } from './services/policy-service.ts';
import { PolicyStore } from './services/policy-store.ts';
import { createWriteService } from './services/write-service.ts';
import { Refusals } from './services/refusals.ts';
import { openServedExport, type ServedExport } from './served-export.ts';

/** How long a start waits for each store. */
const STORE_PROBE_DEADLINE_MS = 5_000;
const MAY_COME_BACK: readonly StoreErrorCode[] = ['unavailable', 'timeout', 'throttled'];

export interface StartOriginOptions {
  /** Made if it is not there. */
  readonly dataDirectory: string;
  readonly listen: ListenAddress;
  readonly exports: readonly ExportConfiguration[];
  /** Throws a UsageError for a URL that no store knows. */
  readonly openStore: (url: string) => ObjectStore;
  /** Listen beyond this host in plain text. */
  readonly insecure: boolean;
  /** What is asked of those who connect; none: plain text, and everybody is let in. */
  readonly credentials?: ServerCredentialFiles;
  /** Who may do what on which export; none: everybody in their own role. */
  readonly access?: AccessLists;
  /** How long leases last; none: the usual. */
  readonly leases?: LeaseSettings;
  /** How long a satellite waits for another's write; none: the usual. */
  readonly writeWaitMs?: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly version: string;
}

export interface Origin {
  /** `host:port` that was really taken. */
  readonly address: string;
  /** A notification of an object store: what to answer its sender. */
  takeEvent(text: string): Promise<EventAnswer>;
  close(): Promise<void>;
}

/** @throws UsageError, OriginError, RpcError `listen` */
export async function startOrigin(options: StartOriginOptions): Promise<Origin> {
  const { clock, logger, metrics, version } = options;
  const configured = parseExports(options.exports);
  const file = await prepareDataDirectory(options.dataDirectory);
  const exports = new Map<string, ServedExport>();
  const index = new NamespaceIndex({ file, clock });
  const takeDown = async (): Promise<void> => {
    await Promise.allSettled([...exports.values()].map((served) => served.close()));
    index.close();
  };
  try {
    for (const one of configured) {
      exports.set(one.name, await openServedExport(one, { ...options, index }));
    }
    await Promise.all([...exports.values()].map((served) => probeStore(served, logger)));
    const access = createAccess({ exportNames: [...exports.keys()], lists: options.access ?? {} });
    const policies = new PolicyStore({
      ...{ database: index.database, clock, logger },
      exportNames: [...exports.keys()],
    });
    const refusals = new Refusals({ clock, logger, metrics });
    const context = { exports, access, index, clock, logger, metrics, version };
    const server = await startRpcServer({
      listen: options.listen,
      insecure: options.insecure,
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      authorize: access.authorize,
      onRefused: (refusal) => refusals.note(refusal),
      clock,
      logger,
      services: [
        rpcService(OriginService, createOriginService(context)),
        rpcService(LeaseService, createLeaseService({ ...context, policies })),
        rpcService(ChangeService, createChangeService(context)),
        rpcService(WriteService, createWriteService(context)),
        rpcService(OriginAdminService, createOriginAdminService(context)),
        rpcService(PolicyService, createPolicyService({ ...context, policies })),
      ],
    });
    logger.info(
      { address: server.address, epoch: index.epoch, exports: [...exports.keys()] },
      `origin listens on ${server.address}`,
    );
    const events = new EventEndpoint({ exports: [...exports.values()], index, logger, metrics });
    return {
      address: server.address,
      takeEvent: (text) => events.take(text),
      async close() {
        await server.close();
        await takeDown();
      },
    };
  } catch (error) {
    await takeDown();
    throw error;
  }
}

async function probeStore({ options, store }: ServedExport, logger: Logger): Promise<void> {
  try {
    await store.list({ prefix: '', keysMax: 1 }, STORE_PROBE_DEADLINE_MS);
  } catch (error) {
    const cause = error instanceof OriginError ? error.cause : undefined;
    if (!(cause instanceof StoreError) || !MAY_COME_BACK.includes(cause.code)) throw error;
    logger.warn(
      { export: options.name, store: options.storeUrl },
      `the store does not answer: ${describeError(error)}`,
    );
  }
}
