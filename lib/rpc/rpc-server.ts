/**
 * Listens for RPC: Connect over HTTP/2, in TLS or in plain text, without compression.
 *
 * Guarantees: no handler runs before the gate has let its caller in, by `authorize`; plain text is refused beyond this
 * host unless `insecure` says so; certificates that change are used for new connections, and streams end with the
 * token by which they came; `close` lets calls under way finish for a bounded time, then ends every connection, so it
 * always resolves.
 */
import http2 from 'node:http2';
import type net from 'node:net';
import { type AddressInfo } from 'node:net';
import { type SecureContextOptions } from 'node:tls';
import { createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { type Clock, sleep } from '../base/clock.ts';
import { type Logger } from '../telemetry/log.ts';
import { Authenticator, type Identity } from './authenticator.ts';
import { type Authorize, Gate, identityKey, type Refusal } from './gate.ts';
import { generalImplementation } from './general-handler.ts';
import { AccessError } from './principal.ts';
import { RpcError } from './rpc-errors.ts';
import {
  openServerCredentials,
  type ServerCredentialFiles,
  type ServerCredentials,
} from './server-credentials.ts';
import { TLS_VERSION_MIN, type TlsMaterial } from './tls-files.ts';
import { type RpcService, serveUnary, unaryRoutes } from './unary-handler.ts';

/** One request; names, keys and pages are far smaller. */
const REQUEST_BYTES_MAX = 1024 * 1024;
/** Longest deadline that a caller may ask for. */
const CALL_DEADLINE_MS_MAX = 10 * 60_000;
/** Calls that one connection may have open. */
const STREAMS_PER_CONNECTION_MAX = 4_096;
/** How often the files of certificates and tokens are looked at. */
const FILES_WATCH_MS = 1_000;
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

export interface RpcServerOptions {
  readonly listen: ListenAddress;
  /** Plain text may be reached from other hosts. */
  readonly insecure: boolean;
  /** None: plain text, everybody who can connect is let in. */
  readonly credentials?: ServerCredentialFiles;
  readonly authorize: Authorize;
  readonly onRefused?: (refusal: Refusal) => void;
  readonly clock: Clock;
  readonly logger?: Logger;
  readonly services: readonly RpcService[];
}

/** @throws UsageError, RpcError `listen` */
export async function startRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const { clock, logger, listen, insecure, services, onRefused = () => undefined } = options;
  const credentials = openServerCredentials(options.credentials ?? {}, {
    host: listen.host,
    insecure,
    clock,
    logger,
  });
  const authenticator = new Authenticator(credentials);
  const gate = new Gate({ authorize: options.authorize, onRefused, clock });
  const shutdown = new AbortController();
  /** Of the streams that are not plain calls. */
  const identities = new Map<http2.Http2Stream, Identity>();
  // Streams that are not plain unary calls are handed to a server of Connect that listens nowhere itself.
  const general = http2.createServer(
    connectNodeAdapter({
      routes: (router) => {
        for (const service of services) router.service(service.service, generalImplementation(service, gate));
      },
      contextValues(request) {
        const identity = 'stream' in request ? identities.get(request.stream) : undefined;
        return identity === undefined
          ? createContextValues()
          : createContextValues().set(identityKey, identity);
      },
      acceptCompression: [],
      readMaxBytes: REQUEST_BYTES_MAX,
      maxTimeoutMs: CALL_DEADLINE_MS_MAX,
      shutdownSignal: shutdown.signal,
      grpc: false,
      grpcWeb: false,
    }),
  );
  const routes = new Map(services.flatMap((service) => unaryRoutes(service, gate)));
  const { server, renew } = createHttp2Server(credentials, onRefused);
  server.on('stream', (stream, headers, ...rest) => {
    const { session } = stream;
    if (session === undefined) return;
    const identity = authenticator.identify(session, headers.authorization);
    // Who was refused may come back with something better, by a new connection.
    if (identity.principal instanceof AccessError) session.close();
    if (serveUnary(stream, headers, { routes, identity, bytesMax: REQUEST_BYTES_MAX })) return;
    identities.set(stream, identity);
    stream.on('close', () => identities.delete(stream));
    // The general handler makes a URL of it and throws at what is none, such as "::1:7420" of Node's own client.
    headers[':authority'] = 'origin';
    try {
      general.emit('stream', stream, headers, ...rest);
    } catch (error) {
      logger?.error({ err: error }, 'a stream was not served');
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    }
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    // A peer that resets its connection is no event of ours: each call on it has failed by itself.
    session.on('error', () => undefined);
  });
  const stopWatching = clock.every(FILES_WATCH_MS, () => {
    renew();
    for (const stream of identities.keys()) {
      const isRefused = stream.session !== undefined && !authenticator.stands(stream.session);
      if (isRefused) stream.close(http2.constants.NGHTTP2_CANCEL);
    }
  });
  const address = await listenOn(server, listen).catch((error: unknown) => {
    stopWatching();
    throw error;
  });

  return {
    address,
    async close() {
      stopWatching();
      shutdown.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      const patience = new AbortController();
      await Promise.race([closed, sleep(clock, CLOSE_DEADLINE_MS, patience.signal).catch(() => undefined)]);
      patience.abort();
      for (const session of sessions) session.destroy();
      await closed;
    },
  };
}

/** Plain, or encrypted; `renew` takes certificates that have changed for new connections, open ones stay. */
function createHttp2Server(
  { tls, certificates }: ServerCredentials,
  onRefused: (refusal: Refusal) => void,
): { readonly server: http2.Http2Server | http2.Http2SecureServer; readonly renew: () => void } {
  const settings = { maxConcurrentStreams: STREAMS_PER_CONNECTION_MAX, enablePush: false };
  if (tls === undefined) {
    const server = http2.createServer({ settings });
    server.on('connection', (socket: net.Socket) => socket.setNoDelay(true));
    return { server, renew: () => undefined };
  }
  const optionsOf = ({ cert, key, ca }: TlsMaterial): SecureContextOptions => ({
    cert,
    key,
    ca,
    minVersion: TLS_VERSION_MIN,
  });
  let used = tls.current();
  const server = http2.createSecureServer({
    ...optionsOf(used),
    settings,
    requestCert: certificates,
    // The authenticator looks at it: who is refused in the handshake is never told why.
    rejectUnauthorized: false,
  });
  server.on('connection', (socket: net.Socket) => socket.setNoDelay(true));
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: net.Socket) => {
    // One that just goes away, such as a probe of the port, is nobody.
    if (error.code === 'ECONNRESET') return;
    const isPlain = error.code === 'ERR_SSL_WRONG_VERSION_NUMBER' || error.code === 'ERR_SSL_HTTP_REQUEST';
    const why = isPlain ? 'the peer speaks plain text' : (error.code ?? error.message);
    const told = new RpcError('denied', `no encrypted connection: ${why}`, { cause: error });
    onRefused({ reason: 'handshake', address: socket.remoteAddress ?? 'unknown', error: told });
  });
  const renew = (): void => {
    const now = tls.current();
    if (now === used) return;
    used = now;
    server.setSecureContext(optionsOf(now));
  };
  return { server, renew };
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
