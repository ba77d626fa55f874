/**
 * The network between one client and the origin: calls that overtake each other, a stream that keeps its order, delay,
 * connections that break (noticed by each side in its own time), and partitions, in which everything is held and comes
 * late or never. What was sent on a connection that has broken does not arrive; what was called may have happened.
 */
import type { Prng } from '../../lib/base/prng.ts';
import { RpcError } from '../../lib/rpc/rpc-errors.ts';
import type { SimProcess, SimTime } from './sim-time.ts';

const DELAY_MS = { usual: 1, slow: 40, slowShare: 0.05 };
/** How long a side may take to notice that a connection has broken. */
const NOTICE_MS_MAX = 3_000;

/** `up`: to the origin. */
export type Direction = 'up' | 'down';
const DIRECTIONS: readonly Direction[] = ['up', 'down'];

/** One side of a stream. */
export interface StreamEnd<Out, In> {
  send(message: Out): void;
  /** Breaks it for both sides. */
  close(): void;
  onMessage: (message: In) => void;
  /** Called once, if the other side or the network ended it. */
  onBroken: (reason: string) => void;
}

interface OwnEnd<Out, In> extends StreamEnd<Out, In> {
  /** Something arrives at the other side after all that was sent before. */
  inOrder(arrive: () => void): void;
}

interface Connection {
  readonly client: SimProcess;
  readonly origin: SimProcess;
  isBroken: boolean;
  /** Of each side: to notice the break. */
  readonly atBreak: (() => void)[];
}

export class SimLink {
  readonly #time: SimTime;
  readonly #prng: Prng;
  readonly #client: () => SimProcess;
  readonly #origin: () => SimProcess;
  readonly #held: Record<Direction, (() => void)[]> = { up: [], down: [] };
  #connections = new Set<Connection>();
  readonly #parted = new Set<Direction>();

  constructor(options: {
    readonly time: SimTime;
    readonly prng: Prng;
    /** The process that runs now, or ran last. */
    readonly client: () => SimProcess;
    readonly origin: () => SimProcess;
  }) {
    this.#time = options.time;
    this.#prng = options.prng;
    this.#client = options.client;
    this.#origin = options.origin;
  }

  /** A unary call: `serve` runs at the origin. Settles once; `unavailable` if the connection broke, `timeout` at the deadline. */
  call<T>(
    serve: () => Promise<T>,
    bounds: { readonly deadlineMs: number; readonly signal?: AbortSignal | undefined },
  ): Promise<T> {
    const { deadlineMs, signal } = bounds;
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const connection = this.#connect();
      let isSettled = false;
      const settle = (then: () => void): void => {
        if (isSettled) return;
        isSettled = true;
        cancel();
        signal?.removeEventListener('abort', abort);
        this.#connections.delete(connection);
        then();
      };
      const abort = (): void => settle(() => reject(signal?.reason));
      const cancel = connection.client.clock.after(deadlineMs, () =>
        settle(() => reject(new RpcError('timeout', `no answer within ${deadlineMs} ms`))),
      );
      signal?.addEventListener('abort', abort, { once: true });
      const fail = (): void =>
        settle(() => reject(new RpcError('unavailable', 'the connection to the origin broke')));
      connection.atBreak.push(() => connection.client.run(fail));
      const answer = (then: () => void): void =>
        this.#travel({ connection, direction: 'down' }, this.#delay(), () =>
          connection.client.run(() => settle(then)),
        );
      this.#travel({ connection, direction: 'up' }, this.#delay(), () => {
        if (connection.origin.isDead) return this.#break(connection);
        connection.origin.run(() => {
          serve().then(
            (value) => answer(() => resolve(value)),
            (error: unknown) => answer(() => reject(error)),
          );
        });
      });
    });
  }

  /** A stream in both directions; `accept` gets the origin's side. */
  open<Up, Down>(accept: (end: StreamEnd<Down, Up>) => void): StreamEnd<Up, Down> {
    const connection = this.#connect();
    const up: OwnEnd<Up, Down> = this.#end(connection, connection.client, () => down);
    const down: OwnEnd<Down, Up> = this.#end(connection, connection.origin, () => up);
    up.inOrder(() => {
      if (connection.origin.isDead) this.#break(connection);
      else connection.origin.run(() => accept(down));
    });
    return up;
  }

  /** Nothing passes in these directions, but in the others, until they are parted or healed again; what was under way waits. */
  part(...directions: readonly Direction[]): void {
    for (const direction of DIRECTIONS) {
      if (directions.includes(direction)) this.#parted.add(direction);
      else if (this.#parted.delete(direction)) {
        for (const go of this.#held[direction].splice(0)) this.#time.after(this.#delay(), go);
      }
    }
  }

  /** Every connection breaks; each side notices in its own time. */
  cut(): void {
    for (const connection of this.#connections) this.#break(connection);
  }

  #connect(): Connection {
    const connection = { client: this.#client(), origin: this.#origin(), isBroken: false, atBreak: [] };
    this.#connections.add(connection);
    return connection;
  }

  #break(connection: Connection): void {
    if (connection.isBroken) return;
    connection.isBroken = true;
    this.#connections.delete(connection);
    for (const notice of connection.atBreak) this.#time.after(this.#prng.below(NOTICE_MS_MAX), notice);
  }

  #end<Out, In>(
    connection: Connection,
    process: SimProcess,
    other: () => StreamEnd<In, Out>,
  ): OwnEnd<Out, In> {
    let isOver = false;
    let lastAtMs = 0;
    const underWay: (() => void)[] = [];
    const { client, origin } = connection;
    const [peer, direction] = process === client ? ([origin, 'up'] as const) : ([client, 'down'] as const);
    const end = {
      onMessage: (_message: In): void => undefined,
      onBroken: (_reason: string): void => undefined,
      /** Whatever was sent first arrives first. */
      inOrder: (arrive: () => void): void => {
        underWay.push(arrive);
        lastAtMs = Math.max(lastAtMs, this.#time.nowMs + this.#delay());
        this.#travel({ connection, direction }, lastAtMs - this.#time.nowMs, () => underWay.shift()?.());
      },
      send: (message: Out): void => {
        if (isOver) return;
        end.inOrder(() =>
          peer.run(() => {
            if (!connection.isBroken) other().onMessage(message);
          }),
        );
      },
      close: (): void => {
        isOver = true;
        // What was sent before is still delivered.
        end.inOrder(() => this.#break(connection));
      },
    };
    connection.atBreak.push(() =>
      process.run(() => {
        if (isOver) return;
        isOver = true;
        end.onBroken('the connection broke');
      }),
    );
    return end;
  }

  #travel(
    way: { readonly connection: Connection; readonly direction: Direction },
    delayMs: number,
    arrive: () => void,
  ): void {
    const { connection, direction } = way;
    const go = (): void => {
      if (connection.isBroken) return;
      if (this.#parted.has(direction)) this.#held[direction].push(() => go());
      else arrive();
    };
    this.#time.after(delayMs, go);
  }

  #delay(): number {
    const mean = this.#prng.next() < DELAY_MS.slowShare ? DELAY_MS.slow : DELAY_MS.usual;
    return mean * (0.5 + this.#prng.next());
  }
}
