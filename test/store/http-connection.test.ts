/** Connections and their pool: every byte of every body, whatever the pieces, the pauses and the server do. */
import fc from 'fast-check';
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, createServer, type OnReadOpts, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { type HttpAnswer, HttpConnection, UnusualAnswerError } from '../../lib/store/http-connection.ts';
import { HttpPool } from '../../lib/store/http-pool.ts';
import { pattern } from './contract.ts';

const never = new AbortController().signal;
const request = (signal = never, name = 'object') => ({
  method: 'GET' as const,
  text: `GET /${name} HTTP/1.1\r\nhost: here\r\n\r\n`,
  signal,
});

const answerOf = (body: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]);

/** All of a body, taken as fast as it comes. */
function bytesOf({ body }: HttpAnswer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  return new Promise((resolve, reject) => {
    body.start({
      take(piece) {
        pieces.push(Buffer.from(piece));
        return true;
      },
      end: () => resolve(Buffer.concat(pieces)),
      fail: (error) => reject(error instanceof Error ? error : new Error('broke off')),
    });
    body.resume();
  });
}

/** A socket whose bytes come when the test says so, into the memory that the connection offers. */
class FakeSocket extends EventEmitter {
  readonly #onread: OnReadOpts;
  paused = false;
  destroyed = false;

  constructor(onread: OnReadOpts) {
    super();
    this.#onread = onread;
  }

  receive(piece: Buffer): void {
    const memory = (this.#onread.buffer as () => Buffer)();
    memory.fill(0xee);
    piece.copy(memory);
    this.#onread.callback(piece.length, memory);
  }

  isPaused = (): boolean => this.paused;
  pause = (): void => void (this.paused = true);
  resume = (): void => void (this.paused = false);
  destroy = (): void => void (this.destroyed = true);
  write = (): boolean => true;
  ref = (): this => this;
  unref = (): this => this;
  setNoDelay = (): this => this;
  setKeepAlive = (): this => this;
}

t.test('a connection gives the bytes of each body, however pieces, pauses and kept memory fall', async () => {
  const bodies = fc.array(
    fc.record({
      bytes: fc.integer({ min: 0, max: 5000 }).map(pattern),
      pieces: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1 }),
      /** For each piece: keep its memory, pause after it. */
      habits: fc.array(fc.record({ keeps: fc.boolean(), pauses: fc.boolean() }), { minLength: 1 }),
      startsLate: fc.boolean(),
    }),
    { minLength: 1, maxLength: 4 },
  );
  await fc.assert(
    fc.asyncProperty(bodies, async (plans) => {
      let socket: FakeSocket | undefined;
      let idle = 0;
      const connection = new HttpConnection({
        connect: (onread) => (socket = new FakeSocket(onread)) as unknown as Socket,
        onIdle: () => idle++,
        onClosed: () => undefined,
      });
      for (const [number, { bytes, pieces, habits, startsLate }] of plans.entries()) {
        const answered = connection.ask(request());
        const taken: Buffer[] = [];
        let ended = false;
        let answer: HttpAnswer | undefined;
        let begun = false;
        void answered.then((got) => (answer = got));
        const begin = (): void => {
          begun = true;
          answer!.body.start({
            take(piece) {
              const { keeps, pauses } = habits[taken.length % habits.length]!;
              taken.push(keeps ? piece : Buffer.from(piece));
              if (pauses) answer!.body.pause();
              return !keeps;
            },
            end: () => (ended = true),
            fail: () => undefined,
          });
          answer!.body.resume();
        };
        const wire = answerOf(bytes);
        for (let at = 0, index = 0; at < wire.length; index++) {
          // As TLS does, some pieces come although the socket is paused.
          const piece = wire.subarray(at, at + pieces[index % pieces.length]!);
          at += piece.length;
          socket!.receive(piece);
          await Promise.resolve();
          await Promise.resolve();
          if (answer === undefined || startsLate) continue;
          if (begun) answer.body.resume();
          else begin();
        }
        answer = await answered;
        if (!begun) begin();
        for (let turn = 0; !ended && turn < 20_000; turn++) answer.body.resume();
        if (!ended || !Buffer.concat(taken).equals(bytes)) return false;
        if (idle !== number + 1 || socket!.destroyed) return false;
      }
      return true;
    }),
  );
});

/** A server that answers the nth request on each connection by what `script` does. */
async function serve(
  t: Test,
  script: (socket: Socket, count: number) => void,
  options: { readonly connectionsMax?: number; readonly clock?: Clock; readonly protocol?: string } = {},
): Promise<{ readonly pool: HttpPool; readonly sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let count = 0;
    socket.on('error', () => undefined);
    socket.on('data', () => script(socket, count++));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const pool = new HttpPool({
    place: {
      protocol: options.protocol ?? 'http:',
      hostname: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
    },
    connectionsMax: options.connectionsMax ?? 8,
    ca: undefined,
    clock: options.clock ?? systemClock,
  });
  t.teardown(() => {
    pool.close();
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { pool, sockets };
}

const BODY = pattern(3_000_000);

t.test('a pool uses a connection again, one that ended it replaces', async (t) => {
  const { pool, sockets } = await serve(t, (socket, count) => {
    socket.write(answerOf(BODY));
    if (count === 2) socket.end();
  });
  for (let count = 0; count < 3; count++) t.ok((await bytesOf(await pool.ask(request()))).equals(BODY));
  t.equal(sockets.length, 1);
  await once(sockets[0]!, 'close');
  t.ok((await bytesOf(await pool.ask(request()))).equals(BODY));
  t.equal(sockets.length, 2);
});

t.test('a connection is not used again after connection: close or bytes too many', async (t) => {
  const tails = [
    'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc',
    `${answerOf(Buffer.from('abc')).toString()}X`,
  ];
  for (const tail of tails) {
    const { pool, sockets } = await serve(t, (socket) => socket.write(tail));
    t.equal((await bytesOf(await pool.ask(request()))).toString(), 'abc');
    t.equal((await bytesOf(await pool.ask(request()))).toString(), 'abc');
    t.equal(sockets.length, 2, tail);
  }
});

t.test('a body never ends normally that the server cuts off', async (t) => {
  const ends: [name: string, end: (socket: Socket) => void][] = [
    ['end', (socket) => socket.end()],
    ['reset', (socket) => void setImmediate(() => socket.resetAndDestroy())],
  ];
  for (const [name, end] of ends) {
    for (const bytes of [0, 1, 70_000, BODY.length - 1]) {
      const { pool } = await serve(t, (socket) => {
        const head = answerOf(BODY).length - BODY.length;
        socket.write(answerOf(BODY).subarray(0, head + bytes), () => end(socket));
      });
      await t.rejects(
        pool.ask(request()).then((answer) => bytesOf(answer)),
        `${name} after ${bytes}`,
      );
    }
  }
});

t.test('a request fails that is cut off before its answer, and says how', async (t) => {
  const { pool } = await serve(t, (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-'));
  await t.rejects(pool.ask(request()), { code: 'ECONNRESET' });
  const { pool: chunked, sockets } = await serve(t, (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n'),
  );
  const error = await chunked.ask(request()).catch((error: unknown) => error);
  t.ok(error instanceof UnusualAnswerError);
  t.match(error, { status: 200 });
  await once(sockets[0]!, 'close');
});

t.test('a request that is given up ends its connection, before and within its answer', async (t) => {
  const { pool, sockets } = await serve(t, (socket, count) => {
    if (sockets.length === 2 && count === 0) socket.write(answerOf(BODY).subarray(0, 1000));
  });
  const reason = new Error('enough');
  const early = new AbortController();
  const asked = pool.ask(request(early.signal));
  await new Promise<void>((resolve) => setImmediate(resolve));
  early.abort(reason);
  await t.rejects(asked, reason);
  const { body } = await pool.ask(request());
  body.destroy();
  await once(sockets[1]!, 'close');
  await t.rejects(pool.ask(request(AbortSignal.abort(reason))), reason);
});

t.test('a pool makes no more connections than it may; who waits is served in order', async (t) => {
  const { pool, sockets } = await serve(
    t,
    (socket) => void setImmediate(() => socket.write(answerOf(BODY))),
    {
      connectionsMax: 2,
    },
  );
  const order: number[] = [];
  const gone = new AbortController();
  const asked = Array.from({ length: 8 }, async (_, index) => {
    const answer = await pool.ask(request(index === 4 ? gone.signal : never));
    order.push(index);
    t.ok((await bytesOf(answer)).equals(BODY));
  });
  const reason = new Error('enough');
  gone.abort(reason);
  await t.rejects(asked[4]!, reason);
  await Promise.all(asked.filter((_, index) => index !== 4));
  t.strictSame(order.slice(2), [2, 3, 5, 6, 7]);
  t.equal(sockets.length, 2);
});

t.test('a connection that is not made in time fails its request', async (t) => {
  const timers: (() => void)[] = [];
  const clock: Clock = {
    ...systemClock,
    after: (_delayMs, run) => {
      timers.push(run);
      return () => undefined;
    },
  };
  const hears = Promise.withResolvers<void>();
  const { pool } = await serve(t, () => hears.resolve(), { clock, protocol: 'https:' });
  const asked = pool.ask(request());
  await hears.promise;
  for (const run of timers) run();
  await t.rejects(asked, { code: 'ETIMEDOUT' });
});

t.test('a pool that is closed ends what is under way', async (t) => {
  const { pool } = await serve(t, (socket) => socket.write(answerOf(BODY).subarray(0, 1000)));
  const read = bytesOf(await pool.ask(request()));
  pool.close();
  await t.rejects(read);
});
