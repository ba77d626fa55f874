/**
 * Adds latency to a store, and nothing else: what a client sends arrives `delayMs` later, in order; answers come
 * back untouched. It looks at no byte, and relays answers in large pieces through memory that is used again, so that it
 * costs little CPU at full bandwidth; for faults see `store-proxy.ts`.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface LatencyProxy {
  readonly endpoint: string;
  close(): Promise<void>;
}

/** Bytes of one client on their way, beyond which it must wait. */
const UNDER_WAY_BYTES_MAX = 16 * 1024 * 1024;
/** What is relayed at a time. */
const PIECE_BYTES = 512 * 1024;
/** Of one connection's answers: one piece is read while others are written. */
const PIECES_MAX = 3;

export async function startLatencyProxy(options: {
  readonly target: string;
  readonly delayMs: number;
}): Promise<LatencyProxy> {
  const { hostname, port } = new URL(options.target);
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connectRelayed({ host: hostname, port: Number(port) }, client);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        // What was read is still written.
        other.destroySoon();
      });
    }
    let underWayBytes = 0;
    client.on('data', (chunk) => {
      underWayBytes += chunk.length;
      if (underWayBytes > UNDER_WAY_BYTES_MAX) client.pause();
      setTimeout(() => {
        upstream.write(chunk, () => {
          underWayBytes -= chunk.length;
          if (underWayBytes <= UNDER_WAY_BYTES_MAX) client.resume();
        });
      }, options.delayMs);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** A connection whose bytes go to the client; a piece of memory is read into again once it is written. */
function connectRelayed(to: { readonly host: string; readonly port: number }, client: Socket): Socket {
  const free: Buffer[] = [];
  let inUse = 0;
  let reading: Buffer | undefined;
  const upstream = connect({
    ...to,
    noDelay: true,
    onread: {
      buffer: () => {
        if (reading === undefined) {
          reading = free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
          inUse += 1;
        }
        return reading;
      },
      callback: (bytes, memory) => {
        reading = undefined;
        client.write((memory as Buffer).subarray(0, bytes), () => {
          inUse -= 1;
          free.push(memory as Buffer);
          if (upstream.isPaused()) upstream.resume();
        });
        if (inUse < PIECES_MAX) return true;
        upstream.pause();
        return false;
      },
    },
  });
  upstream.on('end', () => client.end());
  return upstream;
}
