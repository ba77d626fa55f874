/**
 * Calls of a satellite or a tool to one origin.
 *
 * Guarantees: each call ends within its deadline, with an `RpcError` or the reason of the caller's signal. One HTTP/2
 * connection carries all calls; it is opened at the first call, watched by pings while calls are open, verified by one
 * before the first call after a pause, and opened again by the first call after it broke. A call is never repeated here.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { type Endpoint, parseEndpoint } from '../config/values.ts';
import { type Logger } from '../telemetry/log.ts';
import { ClientCredentials, type ClientCredentialFiles } from './client-credentials.ts';
import { connectionError } from './connection-errors.ts';
import {
  ChangeService,
  LeaseService,
  OriginAdminService,
  OriginService,
  PolicyService,
  WriteService,
} from './gen/origin_pb.js';
import { type LeaseStreamHandle, type LeaseStreamListener, openLeaseStream } from './lease-stream-client.ts';
import { RpcError } from './rpc-errors.ts';
import { callUnary } from './unary-call.ts';

/** A change waits for satellites that do not answer, and for the store to put a large object together. */
const CHANGE_DEADLINE_MS = 300_000;
/** One answer: a page of the longest names with the longest keys is near 3 MiB. */
const RESPONSE_BYTES_MAX = 32 * 1024 * 1024;
const PING_INTERVAL_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
/** Longer than any pause of a job: a new connection costs more than an idle one. */
const IDLE_TIMEOUT_MS = 24 * 60 * 60_000;

export type OriginClient = ReturnType<typeof createOriginClient>;

/**
 * @param options.address `host:port`
 * @param options.credentials none: plain text, without a token
 * @throws UsageError
 */
export function createOriginClient(options: {
  readonly address: string;
  readonly credentials?: ClientCredentialFiles | undefined;
  readonly clock: Clock;
  readonly deadlineMs: number;
  /** For what happens to the files of credentials. */
  readonly logger?: Logger | undefined;
}) {
  const { address, clock, deadlineMs, logger } = options;
  const origin = originOf(address);
  const credentials = new ClientCredentials(options.credentials ?? {}, { origin, clock, logger });
  const { isEncrypted } = credentials;
  const baseUrl = `${isEncrypted ? 'https' : 'http'}://${address}`;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    {
      pingIntervalMs: PING_INTERVAL_MS,
      pingTimeoutMs: PING_TIMEOUT_MS,
      // With pings on an idle connection, connect-node 2.2.0 pings one that was destroyed and throws out of a timer.
      pingIdleConnection: false,
      idleConnectionTimeoutMs: IDLE_TIMEOUT_MS,
    },
    isEncrypted ? { createConnection: () => credentials.connect(origin) } : {},
  );
  const transport = createConnectTransport({
    httpVersion: '2',
    baseUrl,
    sessionManager,
    useBinaryFormat: true,
    acceptCompression: [],
    readMaxBytes: RESPONSE_BYTES_MAX,
    interceptors: [
      (next) => (request) => {
        const authorization = credentials.authorization();
        if (authorization !== undefined) request.header.set('authorization', authorization);
        return next(request);
      },
    ],
  });
  const admin = createClient(OriginAdminService, transport);
  const changes = createClient(ChangeService, transport);
  const leases = createClient(LeaseService, transport);
  let closed = false;

  /** The deadline is kept by this side's clock alone: the other side bounds its own waits. */
  function unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, leastMs = 0) {
    const longerMs = Math.max(deadlineMs, leastMs);
    const bounds = { sessions: sessionManager, clock, deadlineMs: longerMs, bytesMax: RESPONSE_BYTES_MAX };
    return async (
      request: MessageInitShape<I>,
      { signal }: { readonly signal?: AbortSignal } = {},
    ): Promise<MessageShape<O>> => {
      if (closed) throw new RpcError('unavailable', 'the connection to the origin was closed by this side');
      return callUnary(method, request, { ...bounds, authorization: credentials.authorization(), signal });
    };
  }

  return {
    address,
    openExport: unary(OriginService.method.openExport),
    lookup: unary(OriginService.method.lookup),
    getAttributes: unary(OriginService.method.getAttributes),
    listDirectory: unary(OriginService.method.listDirectory),
    getUsage: unary(OriginService.method.getUsage),
    reportStale: unary(OriginService.method.reportStale),
    beginUpload: unary(ChangeService.method.beginUpload, CHANGE_DEADLINE_MS),
    commitUpload: unary(ChangeService.method.commitUpload, CHANGE_DEADLINE_MS),
    abortUpload: unary(ChangeService.method.abortUpload, CHANGE_DEADLINE_MS),
    remove: unary(ChangeService.method.remove, CHANGE_DEADLINE_MS),
    rename: unary(ChangeService.method.rename, CHANGE_DEADLINE_MS),
    makeDirectory: unary(ChangeService.method.makeDirectory, CHANGE_DEADLINE_MS),
    openWrite: unary(WriteService.method.openWrite, CHANGE_DEADLINE_MS),
    beginWriteUpload: unary(WriteService.method.beginWriteUpload, CHANGE_DEADLINE_MS),
    commitWrite: unary(WriteService.method.commitWrite, CHANGE_DEADLINE_MS),
    endWrite: unary(WriteService.method.endWrite, CHANGE_DEADLINE_MS),
    reclaimWrites: unary(WriteService.method.reclaimWrites, CHANGE_DEADLINE_MS),
    makeName: unary(WriteService.method.makeName, CHANGE_DEADLINE_MS),
    removeName: unary(WriteService.method.removeName, CHANGE_DEADLINE_MS),
    renameName: unary(WriteService.method.renameName, CHANGE_DEADLINE_MS),
    setAttributes: unary(WriteService.method.setAttributes, CHANGE_DEADLINE_MS),
    /** Figures so far, again and again; the last ones are the sum. Ends with the caller's signal. */
    async *refresh(
      request: { readonly exportName: string; readonly path: string; readonly recursive: boolean },
      bounds: { readonly signal?: AbortSignal } = {},
    ) {
      try {
        yield* changes.refresh(request, bounds.signal === undefined ? {} : { signal: bounds.signal });
      } catch (error) {
        if (bounds.signal?.aborted) throw bounds.signal.reason;
        throw connectionError(error, isEncrypted);
      }
    },
    getOriginStatus: unary(OriginAdminService.method.getOriginStatus),
    /** Keys that cannot be file names, as they are found. Bounded by `keysMax`; ends with the caller's signal. */
    async *inspectKeys(
      request: { readonly exportName: string; readonly prefix: string; readonly keysMax: number },
      bounds: { readonly signal?: AbortSignal } = {},
    ) {
      try {
        yield* admin.inspectKeys(request, bounds.signal === undefined ? {} : { signal: bounds.signal });
      } catch (error) {
        if (bounds.signal?.aborted) throw bounds.signal.reason;
        throw connectionError(error, isEncrypted);
      }
    },
    listSessions: unary(LeaseService.method.listSessions),
    listLeases: unary(LeaseService.method.listLeases),
    /** The one stream of a satellite's session; ends when the connection does. */
    openLeaseStream(listener: LeaseStreamListener): LeaseStreamHandle {
      return openLeaseStream((messages, signal) => leases.session(messages, { signal }), {
        listener,
        clock,
        toError: (error) => connectionError(error, isEncrypted),
      });
    },
    getPolicies: unary(PolicyService.method.getPolicies),
    getPolicyHistory: unary(PolicyService.method.getPolicyHistory),
    applyPolicies: unary(PolicyService.method.applyPolicies),
    deletePolicy: unary(PolicyService.method.deletePolicy),
    rollbackPolicies: unary(PolicyService.method.rollbackPolicies),
    /** Ends the connection; calls under way fail. */
    close(): void {
      closed = true;
      sessionManager.abort();
    },
  };
}

function originOf(address: string): Endpoint {
  const endpoint = parseEndpoint(address);
  if (typeof endpoint !== 'string') return endpoint;
  throw new UsageError(`"${address}" is not the address of an origin`, {
    hint: 'write host:port, for example origin.example.net:7411 or [::1]:7411',
  });
}
