/**
 * One stream of one satellite, between RPC and the leases of its export; it tells of the export's policies, too.
 *
 * Guarantees: the first message is a hello of this release; messages are taken one after the other; what waits to be
 * sent is bounded; however it ends, the leases are told once, and the satellite is told why.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { HandlerContext } from '@connectrpc/connect';
import { decodeSatelliteMessage, encodeOriginMessage } from '../../lease/lease-messages.ts';
import type { SatelliteMessage } from '../../lease/lease.ts';
import { type Caller, callerOf } from '../../rpc/gate.ts';
import type * as wire from '../../rpc/gen/origin_pb.js';
import { RpcError, type RpcErrorCode } from '../../rpc/rpc-errors.ts';
import { StreamOutbox } from '../../rpc/stream-outbox.ts';
import type { EndReason, ExportLeases } from './export-leases.ts';
import type { PolicyStore } from '../services/policy-store.ts';

/** Messages to one satellite that it has not taken yet; beyond it the stream is ended. */
const OUTBOUND_MAX = 10_000;

type OriginInit = MessageInitShape<typeof wire.OriginMessageSchema>;

/** `undefined`: the satellite has asked for it. */
const codeOf: Readonly<Record<EndReason, RpcErrorCode | undefined>> = {
  goodbye: undefined,
  protocol: 'invalid',
  'another-session': 'denied',
  flood: 'denied',
  'hello-late': 'timeout',
  'too-many-sessions': 'unavailable',
  superseded: 'unavailable',
  expired: 'unavailable',
  slow: 'unavailable',
  stopping: 'unavailable',
};

/** @throws RpcError, and what `leasesOf` throws */
export async function* serveLeaseStream(
  messages: AsyncIterable<wire.SatelliteMessage>,
  handler: HandlerContext,
  parts: {
    readonly leasesOf: (exportName: string) => ExportLeases;
    readonly policies: PolicyStore;
  },
): AsyncGenerator<OriginInit> {
  const caller = callerOf(handler);
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  if (first.value.message.case !== 'hello') throw new RpcError('invalid', 'the first message is not a hello');
  const { exportName } = first.value.message.value;
  const leases = parts.leasesOf(exportName);
  const outbox = new StreamOutbox<OriginInit>(OUTBOUND_MAX);
  const sendPolicies = (): boolean => {
    const { version, document } = parts.policies.setOf(exportName);
    return outbox.push({ message: { case: 'policies', value: { version: BigInt(version), document } } });
  };
  let stopPolicies = (): unknown => undefined;
  const stream = leases.open(
    {
      send(message) {
        if (!outbox.push(encodeOriginMessage(message))) return false;
        if (message.kind !== 'welcome') return true;
        stopPolicies = parts.policies.listen(() => {
          if (!sendPolicies())
            outbox.end(new RpcError('unavailable', 'the satellite does not take messages'));
        });
        return sendPolicies();
      },
      close: (reason, text) => {
        const code = codeOf[reason];
        outbox.end(code === undefined ? undefined : new RpcError(code, text));
      },
    },
    { tenant: caller.principal.tenant, address: caller.address },
  );
  const receive = async (): Promise<void> => {
    try {
      for (
        let next: IteratorResult<wire.SatelliteMessage, unknown> = first;
        next.done !== true;
        next = await iterator.next()
      ) {
        await leases.receive(stream, decode(next.value, caller));
      }
      outbox.end();
    } catch (error) {
      outbox.end(error instanceof Error ? error : new RpcError('unavailable', String(error)));
    }
  };
  const gone = (): void => outbox.end(new RpcError('unavailable', 'the connection has ended'));
  handler.signal.addEventListener('abort', gone, { once: true });
  try {
    void receive();
    yield* outbox;
  } finally {
    handler.signal.removeEventListener('abort', gone);
    stopPolicies();
    leases.broken(stream);
    // Waits for the message that is being read, which comes when the stream is closed.
    void iterator.return?.().catch(() => undefined);
  }
}

/** What is wrong with a message is the satellite's fault here; who it is, is known better than it says, if it is. */
function decode(message: wire.SatelliteMessage, { principal }: Caller): SatelliteMessage {
  try {
    const decoded = decodeSatelliteMessage(message);
    return decoded.kind === 'hello' && principal.provenBy === 'certificate'
      ? { ...decoded, host: principal.host }
      : decoded;
  } catch (error) {
    if (error instanceof RpcError && error.code === 'protocol') throw new RpcError('invalid', error.message);
    throw error;
  }
}
