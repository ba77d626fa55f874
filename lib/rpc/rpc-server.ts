/**
 * Listens for RPC: Connect over HTTP/2 in plain text, without compression.
 *
 * Guarantees: refuses to listen beyond this host unless `insecure` says so; `close` lets calls under way finish for
 * a bounded time, then ends every connection, so it always resolves.
 */
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { type Clock, sleep } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { RpcError } from './rpc-errors.ts';
import { type RpcService, serveUnary } from './unary-handler.ts';

/** One request; names, keys and pages are far smaller. */
const REQUEST_BYTES_MAX = 1024 * 1024;
/** Longest deadline that a caller may ask for. */
const CALL_DEADLINE_MS_MAX = 10 * 60_000;
/** Calls that one connection may have open. */
const STREAMS_PER_CONNECTION_MAX = 4_096;
/** How long `close` waits for calls under way. */
const CLOSE_DEADLINE_MS = 2_000;

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface RpcServer {
  /** `host:port` that was really taken. */
  readonly address: string;
  close(): Promise<void>;
}

/** @throws UsageError, RpcError `listen` */
export async function startRpcServer(options: {
  readonly listen: ListenAddress;
  readonly insecure: boolean;
  readonly clock: Clock;
  readonly services: readonly RpcService[];
}): Promise<RpcServer> {
  refuseOpenAddress(options.listen.host, options.insecure);
  const shutdown = new AbortController();
  // Streams that are not plain unary calls are handed to a server of Connect that listens nowhere itself.
  const general = http2.createServer(
    connectNodeAdapter({
      routes: (router) => {
        for (const { service, implementation } of options.services) router.service(service, implementation);
      },
      acceptCompression: [],
      readMaxBytes: REQUEST_BYTES_MAX,
      maxTimeoutMs: CALL_DEADLINE_MS_MAX,
      shutdownSignal: shutdown.signal,
      grpc: false,
      grpcWeb: false,
    }),
  );
  const routes = new Map(options.services.flatMap(({ unary }) => [...unary]));
  const server = http2.createServer({
    settings: { maxConcurrentStreams: STREAMS_PER_CONNECTION_MAX, enablePush: false },
  });
  server.on('stream', (stream, headers, ...rest) => {
    if (serveUnary(stream, headers, { routes, bytesMax: REQUEST_BYTES_MAX })) return;
    general.emit('stream', stream, headers, ...rest);
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    // A peer that resets its connection is no event of ours: each call on it has failed by itself.
    session.on('error', () => undefined);
  });
  server.on('connection', (socket: net.Socket) => socket.setNoDelay(true));
  const address = await listenOn(server, options.listen);

  return {
    address,
    async close() {
      shutdown.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      const patience = new AbortController();
      await Promise.race([
        closed,
        sleep(options.clock, CLOSE_DEADLINE_MS, patience.signal).catch(() => undefined),
      ]);
      patience.abort();
      for (const session of sessions) session.destroy();
      await closed;
    },
  };
}

/** Plain text stays on this host unless a person decided otherwise. */
function refuseOpenAddress(host: string, insecure: boolean): void {
  if (insecure || isLoopback(host)) return;
  throw new UsageError(`listening on ${host} would take calls from other hosts in plain text`, {
    hint: 'listen on 127.0.0.1, or say --insecure if the network between the hosts is trusted',
  });
}

const loopback = new net.BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const family = net.isIP(host);
  return family !== 0 && loopback.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

/** Binds and returns `host:port`; the port is the real one where 0 was asked for. */
export function listenOn(server: net.Server, listen: ListenAddress): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new RpcError('listen', `cannot listen on ${listen.host}:${listen.port}`, {
          cause: error,
          hint:
            error.code === 'EADDRINUSE'
              ? 'another process listens there; choose another port, or 0 for any'
              : 'check that the host name is one of this machine and that the port may be used',
        }),
      ),
    );
    server.listen(listen.port, listen.host, () => {
      server.removeAllListeners('error');
      const bound = server.address() as AddressInfo;
      resolve(`${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${bound.port}`);
    });
  });
}
