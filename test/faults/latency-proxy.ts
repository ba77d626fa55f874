/**
 * Adds latency to a store, and nothing else: what a client sends arrives `delayMs` later, in order; answers come
 * back untouched. It looks at no byte, so that it costs little CPU at full bandwidth; for faults see `store-proxy.ts`.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface LatencyProxy {
  readonly endpoint: string;
  close(): Promise<void>;
}

/** Bytes of one client on their way, beyond which it must wait. */
const UNDER_WAY_BYTES_MAX = 16 * 1024 * 1024;

export async function startLatencyProxy(options: {
  readonly target: string;
  readonly delayMs: number;
}): Promise<LatencyProxy> {
  const { hostname, port } = new URL(options.target);
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ host: hostname, port: Number(port), noDelay: true });
    const destroyBoth = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', destroyBoth);
      socket.on('close', () => {
        sockets.delete(socket);
        destroyBoth();
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
    upstream.pipe(client);
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
