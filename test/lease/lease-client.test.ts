/** The satellite's side of the lease protocol, step by step. */
import t from 'tap';
import type { Epoch, InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { LeaseClient, type LeaseClientEffect, type LeaseClientEvent } from '../../lib/lease/lease-client.ts';
import type { LeaseReference, OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';

const TERM_MS = 20_000;
const HEARTBEAT_MS = 5_000;
/** A power of two, so that times are exact. */
const RATE_ERROR = 1 / 64;
const COUNTED_MS = TERM_MS * (1 - RATE_ERROR);
const SESSION = 'session' as SessionId;
const EPOCH = 7 as Epoch;
const HELD: readonly LeaseReference[] = [{ directory: 5n as InodeNumber, subtree: true }];

type Event = LeaseClientEvent<string>;
type EffectOf<Kind> = Extract<LeaseClientEffect<string>, { readonly kind: Kind }>;
type SentOf<Kind> = Extract<SatelliteMessage, { readonly kind: Kind }>;
type Welcome = Extract<OriginMessage<string>, { readonly kind: 'welcome' }>;

class Bench {
  nowMs = 1_000;
  readonly machine: LeaseClient<string>;
  effects: readonly LeaseClientEffect<string>[] = [];
  /** When a `time-passed` was last asked for. */
  wakeAtMs = Infinity;

  constructor(options: { readonly successorOf?: SessionId } = {}) {
    this.machine = new LeaseClient<string>({ clockRateError: RATE_ERROR, ...options });
  }

  step(event: Event): void {
    this.effects = this.machine.step(event, this.nowMs);
    for (const { ms } of this.of('wake-at')) this.wakeAtMs = ms;
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.step({ kind: 'time-passed' });
  }

  /** As the driver does it, at the times that it was asked to. */
  passTo(untilMs: number): void {
    while (this.wakeAtMs <= untilMs) this.pass(Math.max(0, this.wakeAtMs - this.nowMs));
    if (this.nowMs < untilMs) this.pass(untilMs - this.nowMs);
  }

  of<Kind extends LeaseClientEffect<string>['kind']>(kind: Kind): EffectOf<Kind>[] {
    return this.effects.filter((effect): effect is EffectOf<Kind> => effect.kind === kind);
  }

  sent<Kind extends SatelliteMessage['kind']>(kind: Kind): SentOf<Kind>[] {
    return this.of('send')
      .map(({ message }) => message)
      .filter((message): message is SentOf<Kind> => message.kind === kind);
  }

  get kinds(): string[] {
    return this.effects.map(({ kind }) => kind).filter((kind) => kind !== 'wake-at');
  }

  told(message: OriginMessage<string>): void {
    this.step({ kind: 'message', message });
  }

  connect(): void {
    this.step({ kind: 'connected', host: 'host', labels: {}, held: HELD });
  }

  welcome(given: Partial<Welcome> = {}): void {
    this.told({
      kind: 'welcome',
      session: SESSION,
      epoch: EPOCH,
      termMs: TERM_MS,
      heartbeatMs: HEARTBEAT_MS,
      resumed: false,
      reclaimed: [],
      ...given,
    });
  }

  withdraw(sequence: number): void {
    this.told({ kind: 'withdraw', sequence, names: [], moved: [] });
  }

  applied(sequence: number, session = SESSION): void {
    this.step({ kind: 'applied', session, sequence, released: [] });
  }

  answer(number: number, termMs = TERM_MS): void {
    this.told({ kind: 'heartbeat-answer', number, termMs });
  }

  /** The next heartbeat is sent and answered. @returns its number */
  beat(): number {
    this.pass(HEARTBEAT_MS);
    const [heartbeat] = this.sent('heartbeat');
    this.answer(heartbeat!.number);
    return heartbeat!.number;
  }

  /** The stream breaks, and another one is open. */
  reconnect(): void {
    this.step({ kind: 'stream-broken', jitter: 1 });
    this.pass(this.wakeAtMs - this.nowMs);
    this.connect();
  }
}

/** A session that is live since `nowMs`. */
function live(): Bench {
  const bench = new Bench();
  bench.step({ kind: 'start' });
  bench.connect();
  bench.welcome();
  return bench;
}

t.test('client counts the term from when the hello was sent, less the rate error', async (t) => {
  const bench = new Bench();
  bench.step({ kind: 'start' });
  t.same(bench.kinds, ['open-stream']);
  bench.nowMs += 40;
  bench.connect();
  t.same(bench.sent('hello'), [{ kind: 'hello', host: 'host', labels: {}, earlier: undefined }]);
  const sentMs = bench.nowMs;
  bench.nowMs += 300;
  bench.welcome();
  t.same(bench.kinds, ['session', 'set-term'], 'nothing was held, so nothing is dropped or acknowledged');
  t.equal(bench.machine.validUntilMs, sentMs + COUNTED_MS);
  t.equal(bench.machine.session, SESSION);
  t.equal(bench.machine.state.kind, 'live');
});

t.test('client renews the term from when the heartbeat was sent, and never shortens it', async (t) => {
  const bench = live();
  bench.pass(HEARTBEAT_MS);
  const firstMs = bench.nowMs;
  bench.pass(HEARTBEAT_MS);
  const secondMs = bench.nowMs;
  bench.nowMs += 100;
  bench.answer(2);
  t.equal(bench.machine.validUntilMs, secondMs + COUNTED_MS);
  bench.answer(1);
  t.equal(bench.machine.validUntilMs, secondMs + COUNTED_MS, 'an earlier one is answered by it too');
  bench.answer(99);
  t.equal(bench.machine.validUntilMs, secondMs + COUNTED_MS, 'nobody asked');
  bench.pass(HEARTBEAT_MS);
  bench.answer(3, 1_000);
  t.equal(bench.machine.validUntilMs, secondMs + COUNTED_MS, 'a shorter term of one who owes something');
  t.ok(firstMs < secondMs);
});

t.test('client drops everything when the term ends, before it does anything else', async (t) => {
  const bench = live();
  t.ok(bench.wakeAtMs <= bench.machine.validUntilMs, 'and is woken for that');
  // Stopped for longer than a term: what came meanwhile is looked at afterwards.
  bench.nowMs = bench.machine.validUntilMs;
  bench.withdraw(1);
  t.same(bench.kinds, ['drop', 'apply-withdraw']);
  t.match(bench.of('drop'), [{ reason: 'expired', keep: [] }]);
  bench.pass(0);
  t.same(bench.of('drop'), [], 'once');
});

t.test('client acknowledges what was applied, and only of the session that it has', async (t) => {
  const bench = live();
  bench.withdraw(1);
  t.same(bench.kinds, ['apply-withdraw']);
  bench.told({ kind: 'recall', sequence: 2, leases: HELD });
  t.same(bench.kinds, ['apply-recall']);
  bench.told({ kind: 'update', sequence: 3, names: [] });
  t.same(bench.kinds, ['apply-update']);
  bench.applied(2);
  t.match(bench.sent('acknowledgement'), [{ sequence: 2 }]);
  bench.applied(1, 'an earlier one' as SessionId);
  t.same(bench.effects, []);
  bench.applied(1);
  t.match(
    bench.sent('acknowledgement'),
    [{ sequence: 1 }],
    'each by itself: none stands for those before it',
  );
});

t.test('client drops everything when a message is missing, and starts over', async (t) => {
  const bench = live();
  bench.withdraw(1);
  bench.withdraw(3);
  t.same(bench.kinds, ['drop', 'session', 'set-term', 'end-stream'], 'the message itself is not applied');
  t.match(bench.of('drop'), [{ reason: 'gap', keep: [] }]);
  t.match(bench.of('session'), [{ session: undefined }]);
  t.equal(bench.machine.validUntilMs, -Infinity);
  bench.withdraw(4);
  t.same(bench.kinds, [], 'what is still under way is nothing any more');
  bench.reconnect();
  t.match(bench.sent('hello'), [{ earlier: { session: SESSION, epoch: EPOCH, lastSequence: 1 } }]);
});

t.test('client says again what may not have arrived, when its session is resumed', async (t) => {
  const bench = live();
  for (const sequence of [1, 2]) bench.withdraw(sequence);
  bench.applied(1);
  bench.beat();
  bench.applied(2);
  bench.withdraw(3);
  bench.reconnect();
  t.match(bench.sent('hello'), [{ earlier: { lastSequence: 3, reclaim: HELD } }]);
  bench.applied(3);
  t.same(bench.kinds, [], 'not before the welcome');
  bench.welcome({ resumed: true });
  t.match(
    bench.sent('acknowledgement').map(({ sequence }) => sequence),
    [2, 3],
    'an answered heartbeat showed that the first is there',
  );
  t.same(bench.of('drop'), []);
  bench.beat();
  bench.reconnect();
  bench.welcome({ resumed: true });
  t.same(bench.sent('acknowledgement'), []);
});

t.test('client lets a heartbeat show only what was said before it', async (t) => {
  const bench = live();
  bench.withdraw(1);
  bench.pass(HEARTBEAT_MS);
  bench.applied(1);
  bench.answer(1);
  bench.reconnect();
  bench.welcome({ resumed: true });
  t.match(bench.sent('acknowledgement'), [{ sequence: 1 }]);
});

t.test(
  'client acknowledges the welcome of another session when nothing of its own is used any more',
  async (t) => {
    const bench = live();
    bench.withdraw(1);
    bench.reconnect();
    bench.welcome({ session: 'other' as SessionId, reclaimed: HELD });
    t.match(bench.of('drop'), [{ reason: 'new-session', keep: HELD }]);
    t.same(bench.sent('acknowledgement'), []);
    const [{ drop }] = bench.of('drop') as [EffectOf<'drop'>];
    bench.applied(1);
    t.same(bench.effects, [], 'that is over');
    bench.step({ kind: 'dropped', drop: drop - 1 });
    t.same(bench.effects, []);
    bench.step({ kind: 'dropped', drop });
    t.match(bench.sent('acknowledgement'), [{ sequence: 0 }]);
    bench.step({ kind: 'dropped', drop });
    t.same(bench.effects, [], 'once');
  },
);

t.test('client acknowledges a welcome after the later of two drops', async (t) => {
  const bench = live();
  bench.reconnect();
  bench.welcome({ session: 'other' as SessionId });
  const [first] = bench.of('drop') as [EffectOf<'drop'>];
  bench.nowMs = bench.machine.validUntilMs;
  bench.step({ kind: 'dropped', drop: first.drop });
  const [second] = bench.of('drop') as [EffectOf<'drop'>];
  t.equal(second.reason, 'expired');
  t.same(bench.sent('acknowledgement'), [], 'the first is not all');
  bench.step({ kind: 'dropped', drop: second.drop });
  t.match(bench.sent('acknowledgement'), [{ sequence: 0 }]);
});

t.test(
  'client takes over from a life that ended: its leases are given back, and nothing is resumed',
  async (t) => {
    const lastLife = 'last-life' as SessionId;
    const bench = new Bench({ successorOf: lastLife });
    bench.step({ kind: 'start' });
    t.equal(bench.machine.session, undefined, 'no question is asked in its name');
    bench.connect();
    t.match(bench.sent('hello'), [{ earlier: { session: lastLife, epoch: 0 } }], 'no epoch is 0');
    bench.step({ kind: 'stream-broken', jitter: 0 });
    bench.passTo(bench.wakeAtMs);
    bench.connect();
    t.match(bench.sent('hello'), [{ earlier: { session: lastLife } }], 'until a welcome has come');
    bench.welcome();
    const [dropped] = bench.of('drop');
    t.match(dropped, { reason: 'new-session', keep: [] });
    bench.step({ kind: 'dropped', drop: dropped?.drop ?? 0 });
    t.match(bench.sent('acknowledgement'), [{ sequence: 0 }], 'from now on the origin need not wait');
    bench.step({ kind: 'stream-broken', jitter: 0 });
    bench.passTo(bench.wakeAtMs);
    bench.connect();
    t.match(bench.sent('hello'), [{ earlier: { session: SESSION, epoch: EPOCH } }], 'it has its own by now');
  },
);

t.test('client refuses what no origin says', async (t) => {
  const said: [string, (bench: Bench) => void][] = [
    ['another welcome', (bench) => bench.welcome()],
    [
      'a welcome that resumes what is not ours',
      (bench) => {
        bench.reconnect();
        bench.welcome({ resumed: true, session: 'other' as SessionId });
      },
    ],
    [
      'one of another epoch',
      (bench) => {
        bench.reconnect();
        bench.welcome({ resumed: true, epoch: 8 as Epoch });
      },
    ],
    [
      'an answer before the welcome',
      (bench) => {
        bench.reconnect();
        bench.answer(1);
      },
    ],
    [
      'a withdrawal before the welcome',
      (bench) => {
        bench.reconnect();
        bench.withdraw(1);
      },
    ],
  ];
  for (const [what, say] of said) {
    const bench = live();
    say(bench);
    t.same(bench.kinds, ['end-stream'], what);
    t.equal(bench.machine.state.kind, 'ending');
  }
});

t.test('client gives a stream up whose heartbeats are not answered', async (t) => {
  const bench = live();
  bench.passTo(bench.nowMs + HEARTBEAT_MS);
  t.equal(bench.sent('heartbeat').length, 1);
  bench.passTo(bench.nowMs + 2 * HEARTBEAT_MS - 1);
  t.equal(bench.machine.state.kind, 'live');
  bench.passTo(bench.nowMs + 1);
  t.same(bench.kinds, ['end-stream']);
  t.ok(bench.nowMs < bench.machine.validUntilMs, 'with time left to come back');
});

t.test('client gives up an origin that does not connect, or not answer', async (t) => {
  const bench = new Bench();
  bench.step({ kind: 'start' });
  bench.pass(bench.wakeAtMs - bench.nowMs);
  t.same(bench.kinds, ['end-stream']);
  bench.reconnect();
  bench.pass(bench.wakeAtMs - bench.nowMs);
  t.same(bench.kinds, ['end-stream']);
});

t.test('client comes back after a while that grows, until a heartbeat is answered', async (t) => {
  const bench = live();
  const delays = (times: number, jitter: number): number[] =>
    Array.from({ length: times }, () => {
      const brokenMs = bench.nowMs;
      // It breaks once, however often that is told.
      for (let told = 0; told < 2; told++) bench.step({ kind: 'stream-broken', jitter });
      // The end of the term wakes it too.
      do bench.pass(bench.wakeAtMs - bench.nowMs);
      while (bench.of('open-stream').length === 0);
      return bench.nowMs - brokenMs;
    });
  t.same(delays(4, 1), [100, 200, 400, 800]);
  t.same(delays(1, 0), [800], 'half of it at least');
  const last = delays(20, 1).at(-1);
  t.equal(last, 5_000);
  bench.connect();
  bench.welcome({ resumed: true });
  bench.step({ kind: 'stream-broken', jitter: 1 });
  t.equal(bench.wakeAtMs - bench.nowMs, 5_000, 'a welcome alone proves little');
  bench.pass(5_000);
  bench.connect();
  bench.welcome({ resumed: true });
  bench.beat();
  bench.step({ kind: 'stream-broken', jitter: 1 });
  t.equal(bench.wakeAtMs - bench.nowMs, 100);
});

t.test('client releases only what somebody hears of, and says goodbye', async (t) => {
  const bench = live();
  const directories = [5n as InodeNumber];
  bench.step({ kind: 'released', directories });
  t.match(bench.sent('release'), [{ directories }]);
  bench.step({ kind: 'stream-broken', jitter: 1 });
  bench.step({ kind: 'released', directories });
  t.same(bench.effects, []);
  bench.pass(bench.wakeAtMs - bench.nowMs);
  bench.connect();
  bench.welcome({ resumed: true });
  bench.step({ kind: 'closing' });
  t.same(bench.sent('goodbye'), [{ kind: 'goodbye' }]);
  t.same(bench.kinds, ['send', 'end-stream', 'set-term']);
  bench.step({ kind: 'start' });
  t.same(bench.effects, [], 'that was the end');
});
