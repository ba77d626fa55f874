/**
 * The server's end of the admin socket.
 *
 * Guarantees: one live process answers for a mount point (a socket whose process is gone is replaced, a live one
 * is refused); the socket and its record exist only while this server listens; what a handler throws reaches the
 * caller as words and never ends the process; a verification ends with its caller or this server.
 */
import http from 'node:http';
import { type Clock, sleep, systemClock } from '../base/clock.ts';
import { describeError, hintOf, PerigeeError } from '../base/errors.ts';
import { RunFiles } from '../config/run-files.ts';
import { type Logger } from '../telemetry/log.ts';
import { ControlError, type MountControl } from './control.ts';
import {
  type Answer,
  CALL_PATH_PREFIX,
  CONTROL_PROTOCOL_VERSION,
  type ControlCall,
  controlCalls,
  REQUEST_BYTES_MAX,
  type RequestOf,
  type ResponseOf,
  RESPONSE_BYTES_MAX,
} from './control-protocol.ts';
import { probeSocket } from './socket-probe.ts';

/** How long `close` waits for replies that are being written. */
const CLOSE_GRACE_MS = 1_000;
const CONNECTIONS_MAX = 64;

export interface ControlServer {
  readonly socketPath: string;
  /**
   * Takes the socket away, aborts verifications, and waits a moment for the answers under way, but not for that
   * of an `unmount`: it is usually what closes the server, and is sent when its handler returns.
   */
  close(): Promise<void>;
}

export interface ControlServerOptions {
  readonly mountpoint: string;
  readonly handlers: MountControl;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Default: of this process's environment. */
  readonly runFiles?: RunFiles;
}

export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const { mountpoint, handlers, logger, clock = systemClock } = options;
  const runFiles = options.runFiles ?? RunFiles.ofEnvironment(process.env, process.getuid?.() ?? 0);
  const socketPath = runFiles.socketPath(mountpoint);
  const active = new Set<Promise<void>>();
  const closing = new AbortController();

  const server = http.createServer((request, response) => {
    const call = serveCall(request, response, { handlers, closing: closing.signal }).catch(
      (error: unknown) => {
        logger.warn({ call: request.url, error: describeError(error) }, 'control call failed');
        response.destroy();
      },
    );
    if (request.url === `${CALL_PATH_PREFIX}unmount`) return;
    active.add(call);
    void call.finally(() => active.delete(call));
  });
  server.maxConnections = CONNECTIONS_MAX;

  try {
    runFiles.prepare();
    if ((await probeSocket(socketPath, { clock })) === 'live') {
      throw new ControlError('in-use', `another process answers for the mount ${mountpoint}`, {
        hint: `perigee unmount ${mountpoint} ends it`,
      });
    }
    runFiles.remove(mountpoint);
    await listen(server, socketPath);
    runFiles.protectSocket(mountpoint);
    runFiles.writeRecord(mountpoint, process.pid);
  } catch (error) {
    if (server.listening) server.close();
    if (error instanceof PerigeeError) throw error;
    throw new ControlError('disk', `cannot make the admin socket ${socketPath}`, {
      cause: error,
      hint: 'set PERIGEE_RUN_DIR to a directory that this user may write',
    });
  }
  server.on('error', (error) => logger.warn({ error: describeError(error) }, 'admin socket failed'));

  return {
    socketPath,
    async close() {
      if (!server.listening) return;
      runFiles.remove(mountpoint);
      server.close();
      closing.abort();
      server.closeIdleConnections();
      await Promise.race([Promise.all(active), sleep(clock, CLOSE_GRACE_MS)]);
    },
  };
}

function listen(server: http.Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function serveCall(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  { handlers, closing }: { readonly handlers: MountControl; readonly closing: AbortSignal },
): Promise<void> {
  const call = callOf(request);
  if (call === undefined) {
    return reply(response, 404, {
      error: {
        code: 'protocol',
        message: `this mount speaks version ${CONTROL_PROTOCOL_VERSION} of the control protocol and has no ${request.method ?? ''} ${request.url ?? ''}`,
        hint: 'use the perigee command of the release that made the mount, or mount again',
      },
    });
  }
  const aborted = new AbortController();
  response.once('close', () => aborted.abort());
  try {
    const body: unknown = JSON.parse(await readBody(request));
    const result = await perform(call, controlCalls[call].request.parse(body), {
      handlers,
      signal: AbortSignal.any([aborted.signal, closing]),
    });
    reply(response, 200, { result });
  } catch (error) {
    const code = error instanceof PerigeeError ? (error as PerigeeError).code : 'failed';
    const hint = hintOf(error);
    reply(response, 500, {
      error: { code, message: describeError(error), ...(hint === undefined ? {} : { hint }) },
    });
  }
}

function callOf(request: http.IncomingMessage): ControlCall | undefined {
  const url = request.url ?? '';
  if (request.method !== 'POST' || !url.startsWith(CALL_PATH_PREFIX)) return undefined;
  const name = url.slice(CALL_PATH_PREFIX.length);
  return Object.hasOwn(controlCalls, name) ? (name as ControlCall) : undefined;
}

/** One handler a call: the table's types are checked here against the contract. */
type Handlers = {
  readonly [Call in ControlCall]: (
    request: RequestOf<Call>,
    to: MountControl,
    signal: AbortSignal,
  ) => Promise<Readonly<ResponseOf<Call>>>;
};

const performers: Handlers = {
  status: async (_, to) => to.status(),
  cacheList: async ({ path }, to) => [...(await to.cacheList(path))],
  cachePin: async ({ path, pinned }, to) => to.cachePin(path, pinned),
  cacheEvict: async ({ path }, to) => to.cacheEvict(path),
  cacheVerify: async ({ path }, to, signal) => to.cacheVerify(path, { signal }),
  unconverged: async ({ path }, to) => to.unconverged(path),
  flush: async ({ path }, to, signal) => {
    await to.flush(path, { signal });
    return null;
  },
  policyExplain: async ({ path }, to) => to.policyExplain(path),
  prefetchStart: async (request, to) => to.prefetchStart(request),
  prefetchList: async (_, to) => {
    const { jobs, outcomes } = await to.prefetchList();
    return { jobs: [...jobs], outcomes: { ...outcomes } };
  },
  prefetchCancel: async ({ id }, to) => to.prefetchCancel(id),
  recordStart: async ({ path }, to) => to.recordStart(path),
  recordStop: async ({ id }, to) => to.recordStop(id),
  unmount: async (request, to) => to.unmount(request).then(() => null),
};

function perform(
  call: ControlCall,
  request: unknown,
  { handlers, signal }: { readonly handlers: MountControl; readonly signal: AbortSignal },
): Promise<unknown> {
  const performer = performers[call] as (
    request: unknown,
    to: MountControl,
    signal: AbortSignal,
  ) => Promise<unknown>;
  return performer(request, handlers, signal);
}

async function readBody(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REQUEST_BYTES_MAX) {
      throw new ControlError('protocol', `a request of over ${REQUEST_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function reply(response: http.ServerResponse, statusCode: number, answer: Answer): void {
  let text = JSON.stringify(answer);
  if (Buffer.byteLength(text) > RESPONSE_BYTES_MAX) {
    text = JSON.stringify({
      error: { code: 'too-many', message: 'the answer is too long', hint: 'name a directory' },
    } satisfies Answer);
  }
  response.writeHead(statusCode, { 'content-type': 'application/json', connection: 'close' });
  response.end(text);
}
