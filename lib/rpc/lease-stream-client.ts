/**
 * A satellite's side of the lease stream, as a transport: messages up and down, in order.
 *
 * Guarantees: `broken` is reported exactly once for each stream, whoever ended it, and nothing after it; what waits to
 * be sent is bounded, and a stream that takes no more in is broken; after `end` what was sent before still goes out,
 * within a bound.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Clock } from '../base/clock.ts';
import type { OriginMessage, SatelliteMessageSchema } from './gen/origin_pb.js';
import { RpcError } from './rpc-errors.ts';
import { StreamOutbox } from './stream-outbox.ts';

export type SatelliteInit = MessageInitShape<typeof SatelliteMessageSchema>;

export interface LeaseStreamListener {
  /** Messages may be sent. */
  opened(): void;
  message(message: OriginMessage): void;
  broken(error: RpcError): void;
}

export interface LeaseStreamHandle {
  send(message: SatelliteInit): void;
  end(): void;
}

/** Messages that wait to be sent: a healthy stream has a handful. */
const OUTBOUND_MAX = 10_000;
/** How long an ended stream may take to send what was given to it. */
const LINGER_MS = 1_000;

export function openLeaseStream(
  call: (messages: AsyncIterable<SatelliteInit>, signal: AbortSignal) => AsyncIterable<OriginMessage>,
  options: {
    readonly listener: LeaseStreamListener;
    readonly clock: Clock;
    readonly toError: (error: unknown) => RpcError;
  },
): LeaseStreamHandle {
  const { listener, clock, toError } = options;
  const abort = new AbortController();
  const outbox = new StreamOutbox<SatelliteInit>(OUTBOUND_MAX);
  let isOver = false;
  let cancelLinger = (): void => undefined;
  const over = (error: RpcError): void => {
    if (isOver) return;
    isOver = true;
    cancelLinger();
    outbox.end();
    abort.abort(error);
    listener.broken(error);
  };
  const receive = async (): Promise<void> => {
    try {
      const messages = call(outbox, abort.signal);
      listener.opened();
      for await (const message of messages) {
        if (isOver) return;
        listener.message(message);
      }
      over(new RpcError('unavailable', 'the origin has ended the lease stream'));
    } catch (error) {
      over(toError(error));
    }
  };
  // The listener has its handle before it hears anything.
  queueMicrotask(() => void receive());
  return {
    send(message) {
      if (isOver || outbox.push(message)) return;
      over(new RpcError('unavailable', `the lease stream takes nothing: ${OUTBOUND_MAX} messages wait`));
    },
    end() {
      if (isOver) return;
      outbox.end();
      const ended = new RpcError('unavailable', 'this side has ended the lease stream');
      cancelLinger = clock.after(LINGER_MS, () => over(ended));
    },
  };
}
