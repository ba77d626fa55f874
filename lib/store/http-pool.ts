/**
 * The connections to one server: kept open, used again, at most so many at one time; further requests wait in order.
 *
 * The connection that fell idle last is taken first, so that the ones that are not needed grow old and are closed by the
 * server. A connection that is not made within `CONNECT_MS` fails the request that waits for it.
 */
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectSecure } from 'node:tls';
import { type Clock } from '../base/clock.ts';
import { abortReason } from './call-deadline.ts';
import { HttpConnection, type HttpAnswer, type HttpRequest } from './http-connection.ts';

export const CONNECT_MS = 5000;

export interface HttpPlace {
  readonly protocol: string;
  readonly hostname: string;
  readonly port: number | undefined;
}

export interface HttpPoolOptions {
  readonly place: HttpPlace;
  readonly connectionsMax: number;
  /** Certificates to trust instead of Node's own. */
  readonly ca: readonly string[] | undefined;
  readonly clock: Clock;
}

export class HttpPool {
  readonly #options: HttpPoolOptions;
  readonly #open = new Set<HttpConnection>();
  /** Used last comes last. */
  readonly #idle: HttpConnection[] = [];
  readonly #waiting = new Set<(connection: HttpConnection | undefined) => void>();

  constructor(options: HttpPoolOptions) {
    this.#options = options;
  }

  /** @throws UnusualAnswerError, the system's error, the signal's reason */
  async ask(request: HttpRequest): Promise<HttpAnswer> {
    let connection = this.#idle.pop() ?? this.#connect();
    while (connection === undefined) connection = (await this.#turn(request.signal)) ?? this.#connect();
    return connection.ask(request);
  }

  /** Makes a connection for the first request. */
  warm(): void {
    const connection = this.#connect();
    if (connection !== undefined) this.#idle.push(connection);
  }

  close(): void {
    for (const connection of [...this.#open]) connection.close(undefined);
  }

  #connect(): HttpConnection | undefined {
    if (this.#open.size >= this.#options.connectionsMax) return undefined;
    const connection = new HttpConnection({
      connect: (onread) => this.#socket(onread, (error) => connection.close(error)),
      onIdle: () => {
        if (!this.#handOver(connection)) this.#idle.push(connection);
      },
      onClosed: () => {
        this.#open.delete(connection);
        const at = this.#idle.indexOf(connection);
        if (at !== -1) this.#idle.splice(at, 1);
        this.#handOver(undefined);
      },
    });
    this.#open.add(connection);
    return connection;
  }

  #socket(onread: OnReadOpts, fail: (error: Error) => void): Socket {
    const { place, ca, clock } = this.#options;
    const host = place.hostname.replace(/^\[(.*)\]$/, '$1');
    const secure = place.protocol === 'https:';
    const to = { host, port: place.port ?? (secure ? 443 : 80), onread };
    const socket = secure
      ? connectSecure({
          ...to,
          ALPNProtocols: ['http/1.1'],
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...(ca === undefined ? {} : { ca: [...ca] }),
        })
      : connectPlain(to);
    const cancel = clock.after(CONNECT_MS, () =>
      fail(Object.assign(new Error(`no connection within ${CONNECT_MS} ms`), { code: 'ETIMEDOUT' })),
    );
    socket.once(secure ? 'secureConnect' : 'connect', cancel);
    socket.once('close', cancel);
    return socket;
  }

  /** To whom has waited longest: a connection, or the right to make one. False: nobody waits. */
  #handOver(connection: HttpConnection | undefined): boolean {
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      next(connection);
      return true;
    }
    return false;
  }

  #turn(signal: AbortSignal): Promise<HttpConnection | undefined> {
    return new Promise((resolve, reject) => {
      const take = (connection: HttpConnection | undefined): void => {
        signal.removeEventListener('abort', abort);
        resolve(connection);
      };
      const abort = (): void => {
        this.#waiting.delete(take);
        reject(abortReason(signal));
      };
      if (signal.aborted) return abort();
      this.#waiting.add(take);
      signal.addEventListener('abort', abort, { once: true });
    });
  }
}
