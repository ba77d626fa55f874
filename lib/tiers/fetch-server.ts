/**
 * The worker's side of fetching and sending: answers commands from the pool, one store per URL, many ranges at a time.
 *
 * Invariants: each command is answered exactly once, and only when none of its writes is under way; after `close`
 * everything is cancelled, answered, and the port let go.
 */
import type { Clock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { Prng } from '../base/prng.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { BlockChecksums } from './block-checksums.ts';
import type { RangeSink } from './body-transfer.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type {
  FetchCommand,
  FetchPort,
  FromFetchWorker,
  SendCommand,
  ToFetchWorker,
} from './fetch-protocol.ts';
import { PartBuffers } from './part-buffers.ts';
import { type ReadAt, sendPart } from './part-server.ts';
import { fetchRange } from './ranged-fetch.ts';
import { failureOf, tierErrorOf } from './tier-errors.ts';

export interface FetchServerOptions {
  readonly port: FetchPort;
  readonly openStore: (url: string) => ObjectStore;
  /** Writes the whole piece at a position of an open descriptor before it returns. */
  readonly writeAt: (descriptor: number, piece: Buffer, position: number) => void;
  readonly readAt: ReadAt;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly limits: FetchLimits;
}

export function serveFetches(options: FetchServerOptions): void {
  const { port, openStore } = options;
  const stores = new Map<string, ObjectStore>();
  const buffers = new PartBuffers(options.clock);
  const running = new Map<number, { readonly cancel: AbortController; readonly ended: Promise<void> }>();

  const storeOf = (url: string): ObjectStore => {
    let store = stores.get(url);
    if (store === undefined) stores.set(url, (store = openStore(url)));
    return store;
  };

  const prepare = async (url: string): Promise<void> => {
    try {
      const store = storeOf(url);
      await store.prepare?.();
      port.post({ kind: 'access', storeUrl: url, access: await store.access?.() });
    } catch {
      // The first fetch fails in the same way, and says so.
    }
  };

  const answer = async (command: FetchCommand, signal: AbortSignal): Promise<void> => {
    const { id, offset, length } = command;
    try {
      const destination = destinationOf(command, options.writeAt);
      await fetchRange(
        {
          source: command.source,
          offset,
          length,
          sink: destination.sink,
          leadBytes: command.leadBytes,
          deadlineMs: command.deadlineMs,
          signal,
          onProgress: (filledTo) => {
            if (command.sink && filledTo < offset + length) port.post({ kind: 'progress', id, filledTo });
          },
        },
        {
          store: storeOf(command.storeUrl),
          clock: options.clock,
          prng: options.prng,
          limits: options.limits,
        },
      );
      const message = destination.answer(id);
      port.post(message, message.kind === 'bytes' ? [message.bytes.buffer] : undefined);
    } catch (error) {
      const failure = failureOf(tierErrorOf(error, `fetching ${command.source.objectKey}`));
      port.post({ kind: 'failed', id, failure });
    } finally {
      running.delete(id);
    }
  };

  const answerSend = async (command: SendCommand, signal: AbortSignal): Promise<void> => {
    const { id, storeUrl, upload } = command;
    try {
      const { readAt } = options;
      const sent = await sendPart(command, { store: storeOf(storeUrl), readAt, buffers, signal });
      port.post({ kind: 'sent', id, ...sent });
    } catch (error) {
      port.post({ kind: 'failed', id, failure: failureOf(tierErrorOf(error, `sending ${upload.key}`)) });
    } finally {
      running.delete(id);
    }
  };

  const begin = (id: number, run: (signal: AbortSignal) => Promise<void>): void => {
    invariant(!running.has(id), 'a request has a number of its own');
    const cancel = new AbortController();
    const entry = { cancel, ended: Promise.resolve() };
    running.set(id, entry);
    entry.ended = run(cancel.signal);
  };

  const close = async (): Promise<void> => {
    for (const { cancel } of running.values()) cancel.abort();
    await Promise.all(Array.from(running.values(), ({ ended }) => ended));
    await Promise.allSettled(Array.from(stores.values(), (store) => store.close()));
    port.close();
  };

  port.onMessage((message: ToFetchWorker) => {
    switch (message.kind) {
      case 'fetch':
        begin(message.id, (signal) => answer(message, signal));
        return;
      case 'send':
        begin(message.id, (signal) => answerSend(message, signal));
        return;
      case 'prepare':
        void prepare(message.storeUrl);
        return;
      case 'cancel':
        running.get(message.id)?.cancel.abort();
        return;
      case 'close':
        void close();
    }
  });
}

interface Destination {
  readonly sink: RangeSink;
  answer(id: number): Extract<FromFetchWorker, { kind: 'filled' | 'bytes' }>;
}

function destinationOf(command: FetchCommand, writeAt: FetchServerOptions['writeAt']): Destination {
  const { offset, length, sink } = command;
  if (sink === undefined) {
    const bytes = new Uint8Array(length);
    return {
      sink: {
        observe: () => undefined,
        write: (piece, position) => bytes.set(piece, position - offset),
        restart: () => undefined,
      },
      answer: (id) => ({ kind: 'bytes', id, bytes }),
    };
  }
  let checksums = new BlockChecksums(sink.blockBytes);
  return {
    sink: {
      observe: (piece) => checksums.add(piece),
      write: (piece, position) => writeAt(sink.descriptor, piece, position),
      restart: () => {
        checksums = new BlockChecksums(sink.blockBytes);
      },
    },
    answer: (id) => ({ kind: 'filled', id, blockChecksums: checksums.finish() }),
  };
}
