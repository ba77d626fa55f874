/**
 * One receive buffer for each connection, used again and again, instead of a fresh one for each piece that arrives.
 *
 * Why: Node makes a buffer of 64 KiB for every read of a socket, and V8 answers the growth of such memory by marking
 * the whole heap: at a gigabyte a second that took a third of all CPU time. Here memory is read into again, in larger
 * pieces, but only if a body that hands its pieces on at once has been named (`share`) and kept nothing of the last
 * read. In all other cases the memory is left to whoever holds it and the connection goes on with fresh memory, as it
 * would without all this.
 *
 * Invariant: bytes are never read into memory of which a piece may still be held.
 */
import { Agent as HttpAgent, type AgentOptions, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { OnReadOpts, Socket } from 'node:net';
import { type Duplex, type Readable } from 'node:stream';

/** What one read of a socket takes at most. */
const RECEIVE_BYTES = 256 * 1024;

/** Receivers by their sockets, to be found from a response. */
const receivers = new WeakMap<object, ReceiveBuffer>();

export class ReceiveBuffer {
  #buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  #mayReuse = true;
  #keepsNothing: (() => boolean) | undefined;
  #socket: Socket | undefined;

  /** Of the connection on which a response came, if it has one. */
  static of(response: IncomingMessage | Readable): ReceiveBuffer | undefined {
    const socket = 'socket' in response ? response.socket : undefined;
    return socket ? receivers.get(socket) : undefined;
  }

  /** For the options of `connect`. */
  readonly onread: OnReadOpts = {
    buffer: () => {
      if (!this.#mayReuse) this.#buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
      return this.#buffer;
    },
    callback: (bytes, buffer) => {
      this.#mayReuse = false;
      // What a socket without a buffer of its own does with what it reads.
      this.#socket?.emit('data', (buffer as Buffer).subarray(0, bytes));
      this.#mayReuse = this.#keepsNothing?.() === true;
      return true;
    },
  };

  attach(socket: Socket): void {
    this.#socket = socket;
    receivers.set(socket, this);
  }

  /** Until `body` closes, everything read here belongs to it, and after each read it tells whether it kept any. */
  share(body: Readable, keepsNothing: () => boolean): void {
    this.#keepsNothing = keepsNothing;
    body.once('close', () => {
      if (this.#keepsNothing === keepsNothing) this.#keepsNothing = undefined;
    });
  }
}

type CreateConnection = (options: object, callback?: (error: Error | null, stream: Duplex) => void) => Duplex;

/** Agents whose connections have receive buffers. */
export function receivingAgents(options: AgentOptions & { readonly ca?: readonly string[] }): {
  readonly httpAgent: HttpAgent;
  readonly httpsAgent: HttpsAgent;
} {
  const { ca, ...plain } = options;
  return {
    httpAgent: receiving(new HttpAgent(plain)),
    httpsAgent: receiving(new HttpsAgent({ ...plain, ...(ca === undefined ? {} : { ca: [...ca] }) })),
  };
}

function receiving<A extends HttpAgent>(agent: A): A {
  const connect = (agent as unknown as { createConnection: CreateConnection }).createConnection.bind(agent);
  return Object.assign(agent, {
    createConnection(options: object, callback?: (error: Error | null, stream: Duplex) => void) {
      const receiver = new ReceiveBuffer();
      const socket = connect({ ...options, onread: receiver.onread }, callback);
      receiver.attach(socket as Socket);
      return socket;
    },
  });
}
