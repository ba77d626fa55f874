/**
 * One connection to an HTTP server, for one request after another, which hands the bytes of bodies on from the memory
 * into which they were received.
 *
 * Why: Node's client copies each piece of a body into fresh memory, and V8 answers the growth of such memory by marking
 * the whole heap: 0.5 of the 2.9 seconds of CPU that a satellite took for a cold GiB. Here one buffer is read into again and
 * again; a piece that nobody takes at once is copied, and one that its taker keeps is left to it.
 *
 * States: idle → asked → (the head is there) answering → idle; from each of them → closed.
 * Invariants: bytes are received into no memory of which somebody holds a piece; the connection is idle only when
 * exactly the bytes of the last answer have come, otherwise it is closed: bytes that nobody asked for, an answer that is
 * given up or not understood, and `connection: close` all end it.
 */
import type { OnReadOpts, Socket } from 'node:net';
import { invariant } from '../base/errors.ts';
import type { BodySource, BodyTaker } from './body-source.ts';
import { abortReason } from './call-deadline.ts';
import { HeadReader, type HttpHead, type HttpMethod } from './http-head.ts';

/** What one read of a socket takes at most. */
const RECEIVE_BYTES = 256 * 1024;
/** Dead peers are looked for on connections that lie idle. */
const KEEP_ALIVE_MS = 1000;

export interface HttpRequest {
  readonly method: HttpMethod;
  /** Request line and headers, with the empty line at the end. */
  readonly text: string;
  readonly signal: AbortSignal;
}

export interface HttpAnswer extends Omit<HttpHead, 'keepsConnection'> {
  readonly body: BodySource;
}

/** The answer is one that is left to a more tolerant client. */
export class UnusualAnswerError extends Error {
  /** As far as it was understood. */
  readonly status: number | undefined;
  constructor(why: string, status: number | undefined) {
    super(`the answer is unusual: ${why}`);
    this.name = 'UnusualAnswerError';
    this.status = status;
  }
}

type State =
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'asked';
      readonly head: HeadReader;
      readonly resolve: (answer: HttpAnswer) => void;
      readonly reject: (error: unknown) => void;
    }
  | { readonly kind: 'answering'; readonly body: AnswerBody; readonly keepsConnection: boolean }
  | { readonly kind: 'closed' };

const IDLE: State = { kind: 'idle' };
const CLOSED: State = { kind: 'closed' };

export interface HttpConnectionOptions {
  /** Begins to connect; `onread` goes to the socket's options. */
  readonly connect: (onread: OnReadOpts) => Socket;
  readonly onIdle: (connection: HttpConnection) => void;
  readonly onClosed: (connection: HttpConnection) => void;
}

export class HttpConnection {
  readonly #options: HttpConnectionOptions;
  readonly #socket: Socket;
  #buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  #state: State = IDLE;

  constructor(options: HttpConnectionOptions) {
    this.#options = options;
    this.#socket = options.connect({
      buffer: () => this.#buffer,
      callback: (bytes) => {
        if (!this.#receive(this.#buffer.subarray(0, bytes)))
          this.#buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
        return true;
      },
    });
    // Only a request under way keeps a process.
    this.#socket.unref();
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.on('error', (error: unknown) => this.close(error));
    this.#socket.on('end', () => this.close(undefined));
    this.#socket.on('close', () => this.close(undefined));
  }

  /** @throws UnusualAnswerError, the system's error, the signal's reason */
  ask({ method, text, signal }: HttpRequest): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#state.kind === 'closed') return reject(brokenOff());
      invariant(this.#state.kind === 'idle', 'a connection has one request at a time');
      const abort = (): void => this.close(abortReason(signal));
      const settled = (): void => signal.removeEventListener('abort', abort);
      this.#state = {
        kind: 'asked',
        head: new HeadReader(method),
        resolve: (answer) => {
          settled();
          resolve(answer);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      };
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      this.#socket.ref();
      this.#socket.write(text, 'latin1');
    });
  }

  /** @param error what the request under way fails with */
  close(error: unknown): void {
    const was = this.#state;
    if (was.kind === 'closed') return;
    this.#state = CLOSED;
    this.#socket.destroy();
    this.#options.onClosed(this);
    if (was.kind === 'asked') was.reject(error ?? brokenOff());
    if (was.kind === 'answering') was.body.broke(error);
  }

  /** The body under way, or its taker, wants no more for now. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Whether the memory of the piece may be used again. */
  #receive(piece: Buffer): boolean {
    switch (this.#state.kind) {
      case 'asked':
        this.#receiveHead(this.#state, piece);
        return true;
      case 'answering':
        return this.#receiveBody(this.#state, piece);
      case 'idle':
        this.close(undefined);
        return true;
      case 'closed':
        return true;
    }
  }

  #receiveHead(asked: Extract<State, { kind: 'asked' }>, piece: Buffer): void {
    const step = asked.head.add(piece);
    if (step.kind === 'more') return;
    if (step.kind === 'unusual') return this.close(new UnusualAnswerError(step.why, step.status));
    const { keepsConnection, ...head } = step.head;
    const body = new AnswerBody(this, head.bodyBytes);
    const answering: State = { kind: 'answering', body, keepsConnection };
    this.#state = answering;
    // Nobody has the body yet, so it copies what there is of it.
    this.#receiveBody(answering, step.rest);
    asked.resolve({ ...head, body });
  }

  #receiveBody(answering: Extract<State, { kind: 'answering' }>, piece: Buffer): boolean {
    const { body, keepsConnection } = answering;
    const { missingBytes } = body;
    const own = piece.length > missingBytes ? piece.subarray(0, missingBytes) : piece;
    const isLast = own.length === missingBytes;
    if (isLast) this.#answered(keepsConnection && own.length === piece.length);
    return body.receive(own);
  }

  /** Before the body's end is told, so that who waits for it finds the connection. */
  #answered(isUsable: boolean): void {
    this.#state = IDLE;
    if (!isUsable) return this.close(undefined);
    // What TLS had decrypted already may have come in spite of a pause.
    if (this.#socket.isPaused()) this.#socket.resume();
    this.#socket.unref();
    this.#options.onIdle(this);
  }
}

function brokenOff(): Error {
  return Object.assign(new Error('the connection broke before the answer'), { code: 'ECONNRESET' });
}

class AnswerBody implements BodySource {
  readonly #connection: HttpConnection;
  /** Came while nobody wanted it. */
  readonly #held: Buffer[] = [];
  #missingBytes: number;
  #taker: BodyTaker | undefined;
  #flowing = false;
  #over = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(connection: HttpConnection, bytes: number) {
    this.#connection = connection;
    this.#missingBytes = bytes;
  }

  /** Not received yet. */
  get missingBytes(): number {
    return this.#missingBytes;
  }

  start(taker: BodyTaker): void {
    this.#taker = taker;
    if (this.#failure !== undefined) this.#fail(this.#failure.error);
  }

  /** Whether the memory of the piece may be used again. */
  receive(piece: Buffer): boolean {
    this.#missingBytes -= piece.length;
    let mayReuse = true;
    if (this.#flowing) {
      if (piece.length > 0) mayReuse = this.#taker!.take(piece);
      this.#endIfDone();
    } else {
      if (piece.length > 0) this.#held.push(Buffer.from(piece));
      if (this.#missingBytes > 0) this.#connection.pause();
    }
    return mayReuse;
  }

  broke(error: unknown): void {
    if (this.#taker === undefined) this.#failure = { error };
    else this.#fail(error);
  }

  pause(): void {
    if (!this.#flowing) return;
    this.#flowing = false;
    if (this.#missingBytes > 0) this.#connection.pause();
  }

  resume(): void {
    if (this.#flowing || this.#over) return;
    this.#flowing = true;
    while (this.#flowing && this.#held.length > 0) this.#taker!.take(this.#held.shift()!);
    if (!this.#flowing) return;
    if (this.#missingBytes > 0) this.#connection.resume();
    this.#endIfDone();
  }

  destroy(): void {
    if (this.#over) return;
    this.#over = true;
    this.#flowing = false;
    this.#held.length = 0;
    if (this.#missingBytes > 0) this.#connection.close(undefined);
  }

  #endIfDone(): void {
    if (this.#missingBytes > 0 || this.#held.length > 0 || !this.#flowing || this.#over) return;
    this.#over = true;
    this.#taker!.end();
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#flowing = false;
    this.#taker!.fail(error);
  }
}
