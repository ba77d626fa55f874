/** The driver of the session, with the real machine, over a stream that the test plays. */
import t from 'tap';
import type { Epoch, SessionId } from '../../lib/base/brand.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { LeaseClient } from '../../lib/lease/lease-client.ts';
import type { OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';
import { HeldNames } from '../../lib/namespace/held-names.ts';
import { LeaseSession, type LeaseStreamListener } from '../../lib/namespace/lease-session.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ManualClock } from '../vfs/manual-clock.ts';
import { attributesOf, grantOf, leasedName, ROOT } from './fixture.ts';

const TERM_MS = 20_000;
const WELCOME: OriginMessage<InodeAttributes> = {
  kind: 'welcome',
  session: '0123456789abcdef' as SessionId,
  epoch: 1 as Epoch,
  termMs: TERM_MS,
  heartbeatMs: 5_000,
  resumed: false,
  reclaimed: [],
};

class Stream {
  readonly sent: SatelliteMessage[] = [];
  readonly listener: LeaseStreamListener;
  isEnded = false;

  constructor(listener: LeaseStreamListener) {
    this.listener = listener;
  }
}

function setUp() {
  const clock = new ManualClock();
  const streams: Stream[] = [];
  const turns: (() => void)[] = [];
  const metrics = createMetrics();
  const cache = new NameCache();
  const held = new HeldNames({ cache, metrics, onReleased: () => undefined });
  const told: string[] = [];
  let lives = 0;
  let kernel = Promise.resolve();
  held.listen({
    drop: (names) => {
      told.push(names.map(({ name }) => name).join());
      return kernel;
    },
    dropAll: () => {
      told.push('all');
      return kernel;
    },
    dropDirectories: async () => undefined,
  });
  const session = new LeaseSession({
    machine: new LeaseClient({ clockRateError: 0.01 }),
    open: (listener) => {
      const stream = new Stream(listener);
      streams.push(stream);
      return {
        send: (message) => stream.sent.push(message),
        end: () => (stream.isEnded = true),
      };
    },
    held,
    clock,
    nextTurn: (run) => turns.push(run),
    prng: seededPrng(1),
    host: 'here',
    labels: { rack: 'a' },
    logger: createLogger({ level: 'silent' }),
    metrics,
    onLive: () => (lives += 1),
  });
  /** Everything that is due in later turns, and what waits for promises alone. */
  const settle = async (): Promise<void> => {
    for (let rounds = 0; rounds < 20; rounds++) {
      for (const turn of turns.splice(0)) turn();
      await Promise.resolve();
    }
  };
  const stream = (): Stream => streams.at(-1) as Stream;
  const receive = async (message: OriginMessage<InodeAttributes>): Promise<void> => {
    stream().listener.message(message);
    await settle();
  };
  const kinds = (): string[] => stream().sent.map(({ kind }) => kind);
  const learn = (name: string): void => {
    const question = cache.ask({ kind: 'name', directory: ROOT, name });
    cache.keepName(question, { attributes: attributesOf(7), grant: grantOf(1) });
  };
  return {
    clock,
    session,
    streams,
    stream,
    turns,
    settle,
    receive,
    kinds,
    told,
    cache,
    learn,
    lives: () => lives,
    holdKernel: (until: Promise<void>) => (kernel = until),
  };
}

async function live() {
  const world = setUp();
  world.session.start();
  world.stream().listener.opened();
  await world.settle();
  await world.receive(WELCOME);
  return world;
}

const withdraw = (sequence: number, name: string): OriginMessage<InodeAttributes> => ({
  kind: 'withdraw',
  sequence,
  names: [leasedName(1, name)],
  moved: [],
});

t.test('a session says hello, is welcomed, and beats', async (t) => {
  const { session, stream, clock, kinds, lives, receive, settle } = await live();
  t.match(stream().sent[0], { kind: 'hello', host: 'here', labels: { rack: 'a' }, earlier: undefined });
  t.equal(session.session, '0123456789abcdef');
  t.equal(session.validUntilMs, TERM_MS * 0.99);
  t.equal(lives(), 1);
  t.same(session.stat(), { state: 'live', session: '01234567', termLeftMs: TERM_MS * 0.99 });
  clock.advance(5_000);
  await settle();
  t.same(kinds(), ['hello', 'heartbeat']);
  clock.advance(1_000);
  await receive({ kind: 'heartbeat-answer', number: 1, termMs: TERM_MS });
  t.equal(session.validUntilMs, 5_000 + TERM_MS * 0.99, 'counted from when it was sent');
});

t.test(
  'a withdrawal is acknowledged when the kernel has dropped the name, and applied in a turn of its own',
  async (t) => {
    const { stream, turns, cache, learn, kinds, told, settle, holdKernel } = await live();
    learn('a');
    const kernel = Promise.withResolvers<void>();
    holdKernel(kernel.promise);
    stream().listener.message(withdraw(1, 'a'));
    t.not(cache.name(ROOT, 'a'), undefined, 'this turn goes on with what it knows');
    t.equal(turns.length, 1);
    await settle();
    t.equal(cache.name(ROOT, 'a'), undefined);
    t.same(told, ['a']);
    t.same(kinds(), ['hello']);
    kernel.resolve();
    await settle();
    t.match(stream().sent.at(-1), { kind: 'acknowledgement', sequence: 1, released: [] });
  },
);

t.test('an update needs no acknowledgement, a recall does', async (t) => {
  const { cache, learn, kinds, receive, stream } = await live();
  learn('a');
  await receive(withdraw(1, 'a'));
  await receive({
    kind: 'update',
    sequence: 2,
    names: [{ name: leasedName(1, 'a'), inode: attributesOf(8) }],
  });
  t.match(cache.name(ROOT, 'a'), { attributes: { inode: 8n } });
  t.same(kinds(), ['hello', 'acknowledgement']);
  await receive({ kind: 'recall', sequence: 3, leases: [] });
  t.equal(cache.size, 0);
  t.match(stream().sent.at(-1), { kind: 'acknowledgement', sequence: 3 });
});

t.test('a directory of which nothing is known is given back with the acknowledgement', async (t) => {
  const { receive, stream } = await live();
  await receive(withdraw(1, 'a'));
  t.match(stream().sent.at(-1), { kind: 'acknowledgement', sequence: 1, released: [ROOT] });
});

t.test('a broken stream is opened again, and names its session; names are used meanwhile', async (t) => {
  const { session, clock, stream, streams, settle, cache, learn, receive, lives } = await live();
  learn('a');
  stream().listener.broken(new Error('reset'));
  await settle();
  t.equal(session.stat().state, 'reconnecting');
  t.not(cache.name(ROOT, 'a'), undefined);
  clock.advance(100);
  t.equal(streams.length, 2);
  stream().listener.opened();
  await settle();
  t.match(stream().sent[0], {
    kind: 'hello',
    earlier: { session: '0123456789abcdef', lastSequence: 0, reclaim: [{ directory: ROOT }] },
  });
  await receive({ ...WELCOME, resumed: true });
  t.not(cache.name(ROOT, 'a'), undefined, 'resumed: nothing is lost');
  t.equal(lives(), 2);
});

t.test('a session that is not resumed drops everything, and says so only when the kernel has', async (t) => {
  const { clock, stream, settle, cache, learn, receive, told, holdKernel, kinds } = await live();
  learn('a');
  stream().listener.broken(new Error('reset'));
  await settle();
  clock.advance(100);
  stream().listener.opened();
  await settle();
  const kernel = Promise.withResolvers<void>();
  holdKernel(kernel.promise);
  await receive({ ...WELCOME, session: 'another' as SessionId });
  t.equal(cache.size, 0);
  t.same(told, ['all']);
  t.same(kinds(), ['hello']);
  kernel.resolve();
  await settle();
  t.match(stream().sent.at(-1), { kind: 'acknowledgement', sequence: 0 });
});

t.test('when the term ends everything is dropped', async (t) => {
  const { session, clock, settle, cache, learn, told, stream } = await live();
  learn('a');
  stream().listener.broken(new Error('reset'));
  await settle();
  clock.advance(TERM_MS);
  await settle();
  t.equal(cache.size, 0);
  t.same(told, ['all']);
  t.equal(session.stat().state, 'lost');
});

t.test('a missing message ends the stream, with all names', async (t) => {
  const { session, cache, learn, receive, stream, told } = await live();
  learn('a');
  await receive(withdraw(2, 'b'));
  t.equal(cache.size, 0);
  t.same(told, ['all']);
  t.equal(session.session, undefined);
  t.ok(stream().isEnded);
});

t.test('the end of a mount is told to the origin', async (t) => {
  const { session, kinds, stream, settle } = await live();
  const closing = session.close();
  t.same(kinds(), ['hello', 'goodbye']);
  t.ok(stream().isEnded);
  stream().listener.broken(new Error('ended'));
  await settle();
  await closing;
});
