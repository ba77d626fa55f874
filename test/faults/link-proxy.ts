/**
 * A link between a client and a server that can be taken away: `cut` breaks every connection, `part` lets nothing pass
 * until `heal`, in both directions and without a sign to either side. It looks at no byte and loses none but by `cut`.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface LinkProxy {
  /** `host:port` */
  readonly address: string;
  /** Where new connections go from now on. */
  target: string;
  cut(): void;
  part(): void;
  heal(): void;
  close(): Promise<void>;
}

export async function startLinkProxy(target: string): Promise<LinkProxy> {
  const sockets = new Set<Socket>();
  let isParted = false;
  const server = createServer({ noDelay: true }, (client) => {
    const [host = '', port = '0'] = proxy.target.split(':');
    const upstream = connect({ host, port: Number(port), noDelay: true });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      const destroyBoth = (): void => {
        from.destroy();
        to.destroy();
      };
      from.on('error', destroyBoth);
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
      // Whatever sets it flowing, the other end's drain for one.
      from.on('resume', () => (isParted ? from.pause() : undefined));
      if (isParted) from.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: LinkProxy = {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    target,
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    part: () => {
      isParted = true;
      for (const socket of sockets) socket.pause();
    },
    heal: () => {
      isParted = false;
      for (const socket of sockets) socket.resume();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
  return proxy;
}
