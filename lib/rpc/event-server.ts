/**
 * Takes notifications over HTTP/1.1: `POST /events` with a body in JSON.
 *
 * Guarantees: a body over the bound is refused before it is read whole; a caller without the token, where one is asked
 * for, is refused in constant time; listening beyond this host needs a token. What `take` answers is the status, so a
 * sender that repeats what failed loses nothing.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { UsageError } from '../base/errors.ts';
import { type ListenAddress, listenOn } from './rpc-server.ts';

const BODY_BYTES_MAX = 1024 * 1024;
/** A sender that stalls is cut off. */
const REQUEST_TIMEOUT_MS = 30_000;

export interface EventAnswer {
  readonly status: 200 | 400 | 503;
  readonly text: string;
}

export interface EventServer {
  readonly address: string;
  close(): Promise<void>;
}

/** @throws UsageError, RpcError `listen` */
export async function startEventServer(options: {
  readonly listen: ListenAddress;
  /** What senders must present as bearer; undefined: nothing, from this host only. */
  readonly token: string | undefined;
  readonly take: (text: string) => Promise<EventAnswer>;
}): Promise<EventServer> {
  const { listen, token, take } = options;
  if (token === undefined && !isLoopback(listen.host)) {
    throw new UsageError(`--events ${listen.host} is reached from other hosts, and no token is asked for`, {
      hint: 'give --events-token FILE, or listen on 127.0.0.1',
    });
  }
  const server = http.createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const end = (status: number, text: string): void => {
      response.writeHead(status, { 'content-type': 'text/plain' }).end(`${text}\n`);
    };
    if ((request.url ?? '').split('?')[0] !== '/events') return end(404, 'notifications go to /events');
    if (request.method !== 'POST') return end(405, 'notifications are posted');
    if (token !== undefined && !bears(request.headers.authorization, token)) {
      return end(401, 'the bearer token is missing or wrong');
    }
    bodyOf(request).then(
      (text) => {
        if (text === undefined) return end(413, `a notification has at most ${BODY_BYTES_MAX} bytes`);
        return take(text).then(
          (answer) => end(answer.status, answer.text),
          () => end(503, 'try again'),
        );
      },
      () => request.destroy(),
    );
  });
  const address = await listenOn(server, listen);
  return {
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function bodyOf(request: http.IncomingMessage): Promise<string | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > BODY_BYTES_MAX) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

function bears(header: string | undefined, token: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(header ?? ''), digest(`Bearer ${token}`));
}

function isLoopback(host: string): boolean {
  if (host === 'localhost' || host === '::1') return true;
  return net.isIPv4(host) && host.startsWith('127.');
}
