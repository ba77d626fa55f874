import t from 'tap';
import type { ReceiveCallback, RequestChannel } from '../../lib/fuse/device.ts';
import { RequestPump } from '../../lib/fuse/request-pump.ts';
import { RequestMemory } from '../../lib/fuse/request-reader.ts';
import { ManualClock } from '../vfs/manual-clock.ts';

const LARGE = 128 * 1024;

/** A channel in which reads are parked until a request comes. */
class Parked implements RequestChannel {
  closed = false;
  #done: ReceiveCallback | undefined;

  get isParked(): boolean {
    return this.#done !== undefined;
  }

  receive(_into: Buffer, done: ReceiveCallback): void {
    this.#done = done;
  }

  come(bytes: number): void {
    const done = this.#done;
    this.#done = undefined;
    done!(null, bytes);
  }

  fail(code: string): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(Object.assign(new Error(code), { code }), 0);
  }

  tryReceive(): number {
    return 0;
  }

  send(): number {
    return 0;
  }

  notify(): void {}

  close(): void {
    this.closed = true;
  }
}

/** Each ask of the polled channel takes a little time. */
const ASK_MS = 0.01;

class World {
  readonly clock = new ManualClock();
  readonly one = new Parked();
  readonly other = new Parked();
  /** Sizes of the requests that wait. */
  readonly waiting: number[] = [];
  readonly taken: number[] = [];
  readonly limits: string[] = [];
  readonly ends: string[] = [];
  asks = 0;
  isAnswered = true;
  limit: string | undefined;
  readonly pump: RequestPump;
  #turns: (() => void)[] = [];

  constructor() {
    this.pump = new RequestPump({
      memory: new RequestMemory(2 * LARGE),
      clock: this.clock,
      nextTurn: (run) => this.#turns.push(run),
      take: (_reader, received) => {
        this.taken.push(received);
        return this.isAnswered;
      },
      limit: () => this.limit,
      limitReached: (limit) => this.limits.push(limit),
      ended: (error) => this.ends.push(error.code!),
    });
    this.pump.park(this.one);
    this.pump.park(this.other);
    const polled = new Parked();
    polled.tryReceive = () => {
      this.asks += 1;
      this.clock.advance(ASK_MS);
      return this.waiting.shift() ?? 0;
    };
    this.pump.poll(polled);
  }

  get parked(): number {
    return [this.one, this.other].filter(({ isParked }) => isParked).length;
  }

  get isPolling(): boolean {
    return this.#turns.length > 0;
  }

  /** The next turn of the event loop. */
  turn(): void {
    for (const run of this.#turns.splice(0)) run();
  }

  /** As many as it takes until nothing is polled for. */
  settle(): number {
    let turns = 0;
    for (; this.isPolling; turns++) this.turn();
    return turns;
  }
}

t.test('pump polls for no request where they come one by one', (t) => {
  const world = new World();
  for (let at = 0; at < 10; at++) {
    world.clock.advance(1);
    (world.one.isParked ? world.one : world.other).come(64);
    t.notOk(world.isPolling);
  }
  t.equal(world.taken.length, 10);
  t.equal(world.asks, 10, 'what waits already is asked for once after each');
  t.equal(world.parked, 1, 'another read that was parked has come once, and is not needed again');
  t.end();
});

t.test('pump polls while requests follow each other, and parks one read when none does', (t) => {
  const world = new World();
  // Nothing is there yet each other time.
  world.waiting.push(0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0, 64);
  world.one.come(64);
  t.equal(world.taken.length, 1, 'the first comes from nowhere');
  world.other.come(64);
  t.equal(world.parked, 0, 'a parked read would be woken for each request');
  world.settle();
  t.equal(world.taken.length, 5);
  t.equal(world.asks, 1 + 11 + 5, 'for a bounded time without any');
  t.equal(world.parked, 1);
  t.end();
});

t.test('pump lets the event loop go on after a bounded number of requests, and after a bounded time', (t) => {
  const world = new World();
  world.one.come(64);
  for (let at = 0; at < 40; at++) world.waiting.push(64);
  world.other.come(64);
  const counts = [];
  while (world.isPolling) {
    counts.push(world.taken.length);
    world.turn();
  }
  t.same(counts.slice(0, 2), [18, 34]);
  t.equal(world.taken.length, 42);
  t.end();
});

t.test('pump lets the event loop go on when a request is not answered at once', (t) => {
  const world = new World();
  world.isAnswered = false;
  world.one.come(64);
  world.waiting.push(64, 64);
  world.other.come(64);
  t.equal(world.taken.length, 3);
  t.ok(world.isPolling);
  world.turn();
  t.equal(world.taken.length, 4);
  t.end();
});

t.test('pump parks all reads while requests are large', (t) => {
  const world = new World();
  for (const each of [world.one, world.other]) each.come(64);
  t.equal(world.parked, 1);
  (world.one.isParked ? world.one : world.other).come(LARGE);
  t.equal(world.parked, 2);
  t.notOk(world.isPolling);
  world.one.come(64);
  world.waiting.push(LARGE);
  world.other.come(64);
  t.notOk(world.isPolling, 'one that was polled for counts too');
  t.equal(world.parked, 2);
  t.end();
});

t.test('pump takes nothing at a limit, and goes on where there is room', (t) => {
  const world = new World();
  world.limit = 'requests';
  world.waiting.push(64);
  world.one.come(64);
  world.other.come(64);
  t.equal(world.taken.length, 2, 'those that were read already');
  t.equal(world.parked, 0);
  t.ok(world.limits.length > 0 && world.limits.every((limit) => limit === 'requests'));
  world.pump.resume();
  t.equal(world.parked, 0, 'still no room');
  world.limit = undefined;
  world.pump.resume();
  t.equal(world.parked, 1);
  t.end();
});

t.test('pump ends once, when its last parked read does', (t) => {
  const world = new World();
  world.one.fail('EINTR');
  t.ok(world.one.isParked, 'a read that was interrupted is parked again');
  world.other.fail('ENODEV');
  t.same(world.ends, []);
  world.one.fail('ECONNABORTED');
  t.same(world.ends, ['ENODEV'], 'the first reason');
  world.pump.resume();
  t.equal(world.parked, 0);
  const late = new Parked();
  world.pump.park(late);
  t.ok(late.closed);
  t.end();
});
