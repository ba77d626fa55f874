/** The origin's lease table, step by step. */
import t from 'tap';
import type { Epoch, InodeNumber, SessionId } from '../../lib/base/brand.ts';
import type { RememberedSession } from '../../lib/lease/lease-table-events.ts';
import type { LeaseReference } from '../../lib/lease/lease.ts';
import { Bench, TERM_MS, chain } from './lease-bench.ts';

const earlierOf = (session: string, lastSequence: number, reclaim: LeaseReference[] = [], epoch = 7) => ({
  session: session as SessionId,
  epoch: epoch as Epoch,
  lastSequence,
  reclaim,
});

t.test('a change in a directory that nobody holds performs at once', async (t) => {
  const bench = new Bench();
  bench.want(1, 'a', chain(2, 1));
  t.strictSame(bench.effects, [{ kind: 'change-may-perform', change: 1 }]);
  t.equal(bench.table.underChange(2n as InodeNumber, 'a')?.change, 1);
  bench.finish(1);
  t.strictSame(bench.effects, [{ kind: 'change-ended', change: 1 }]);
  t.equal(bench.table.underChange(2n as InodeNumber, 'a'), undefined);
});

t.test('changes that share a name perform together, and the last one tells what it is', async (t) => {
  const bench = new Bench();
  const holder = bench.join('s1');
  bench.grant('s1', 1);
  const shared = { isShared: true };
  bench.want(1, 'd', chain(1), shared);
  bench.say(holder, { kind: 'acknowledgement', sequence: 1, released: [] });
  t.strictSame(bench.mayPerform, [1]);
  bench.want(2, 'd', chain(1), shared);
  t.equal(bench.told('withdraw')[0]?.sequence, 2, 'it may have been told meanwhile');
  bench.say(holder, { kind: 'acknowledgement', sequence: 2, released: [] });
  t.strictSame(bench.mayPerform, [2], 'before the first has ended');
  bench.want(3, 'd', chain(1));
  t.strictSame(bench.effects, [], 'who wants it alone waits for both');
  bench.want(4, 'd', chain(1), shared);
  t.strictSame(bench.effects, [], 'and is not overtaken');
  bench.finish(1, { directory: 1, name: 'd' });
  t.strictSame(bench.told('update'), [], 'another change goes on with it');
  t.match(bench.table.underChange(1n as InodeNumber, 'd'), { change: 2, isShared: true });
  bench.finish(2, { directory: 1, name: 'd' });
  t.equal(bench.told('update').length, 1);
  t.equal(bench.told('withdraw').length, 1, 'the third begins');
  t.match(bench.table.underChange(1n as InodeNumber, 'd'), { change: 3, isShared: false });
  bench.say(holder, { kind: 'acknowledgement', sequence: 4, released: [] });
  t.strictSame(bench.mayPerform, [3]);
  bench.finish(3);
  bench.say(holder, { kind: 'acknowledgement', sequence: 5, released: [] });
  t.strictSame(bench.mayPerform, [4]);
  bench.finish(4);
  t.equal(bench.table.changes, 0);
});

t.test('holders get one message with all their names, acknowledge, and are told', async (t) => {
  const bench = new Bench();
  const [one, other] = [bench.join('s1'), bench.join('s2')];
  t.strictSame(bench.grant('s1', 2, 1), { sequence: 0, lease: { directory: 1n, subtree: true } });
  bench.grant('s2', 1);
  bench.want(1, 'a', chain(2, 1), { by: 's2' });
  t.strictSame(
    bench.told('withdraw').map(({ stream, sequence }) => [stream, sequence]),
    [[one, 1]],
    'who makes the change is not asked',
  );
  t.strictSame(bench.mayPerform, []);
  bench.say(one, { kind: 'acknowledgement', sequence: 1, released: [] });
  t.strictSame(bench.mayPerform, [1]);
  bench.finish(1, { directory: 2, name: 'a' });
  t.strictSame(
    bench.told('update').map(({ stream, sequence }) => [stream, sequence]),
    [
      [one, 2],
      [other, 1],
    ],
  );
});

t.test('one who never acknowledges delays a change for one term and no longer', async (t) => {
  // product.md: "The origin delays a change only for the holders that it concerns, and never longer than one lease term."
  const bench = new Bench();
  const stream = bench.join('s1');
  bench.grant('s1', 1);
  bench.pass(3_000);
  bench.want(1, 'a', chain(1));
  let number = 0;
  while (bench.nowMs < 3_000 + TERM_MS - 2_000) {
    bench.pass(2_000);
    bench.say(stream, { kind: 'heartbeat', number: ++number });
    const [answer] = bench.told('heartbeat-answer');
    t.equal(answer?.termMs, TERM_MS - (bench.nowMs - 3_000), 'the answer is shorter by the age of the debt');
  }
  bench.pass(2_000 + TERM_MS * 0.01);
  t.strictSame(bench.mayPerform, [1]);
  t.strictSame(bench.closed, ['expired']);
  t.strictSame(bench.of('forget-session'), [{ kind: 'forget-session', session: 's1' }]);
});

t.test('changes of one name run in order, others beside them', async (t) => {
  const bench = new Bench();
  bench.want(1, 'a', chain(1));
  bench.want(2, 'a', chain(1));
  t.strictSame(bench.mayPerform, []);
  bench.want(3, 'b', chain(1));
  t.strictSame(bench.mayPerform, [3]);
  bench.want(4, 'a', chain(1));
  bench.finish(2);
  t.strictSame(bench.mayPerform, [], 'given up while it waited: the next still waits for the first');
  bench.finish(1);
  t.strictSame(bench.mayPerform, [4]);
});

t.test(
  'a move waits for changes below it, and changes below wait for the move and lie elsewhere then',
  async (t) => {
    const bench = new Bench();
    const holder = bench.join('s1');
    bench.want(1, 'x', chain(5, 4, 2, 1));
    bench.finish(1);
    t.strictSame(bench.grant('s1', 3, 1), { sequence: 0, lease: { directory: 3n, subtree: true } });
    bench.want(2, 'f', chain(5, 4, 2, 1));
    bench.want(3, 'dir', chain(2, 1), { moved: [chain(4, 2, 1)] });
    t.strictSame(bench.mayPerform, []);
    bench.want(4, 'g', chain(5, 4, 2, 1));
    bench.finish(2);
    t.strictSame(bench.mayPerform, [3]);
    t.equal(bench.grant('s1', 5, 4, 2, 1), undefined, 'nothing at or below it is granted meanwhile');
    bench.finish(3, undefined, [chain(4, 3, 1)]);
    t.strictSame(
      bench.told('withdraw').map(({ stream, names }) => [stream, names[0]?.name]),
      [[holder, 'g']],
    );
  },
);

t.test('who holds only directories below a moved one is told to drop them', async (t) => {
  const bench = new Bench({ quietMs: 1e9 });
  bench.want(1, 'x', chain(5, 4, 2, 1));
  bench.finish(1);
  bench.join('s1');
  t.strictSame(bench.grant('s1', 5, 4, 2, 1), { sequence: 0, lease: { directory: 5n, subtree: false } });
  bench.want(2, 'dir', chain(2, 1), { moved: [chain(4, 2, 1)] });
  const [withdraw] = bench.told('withdraw');
  t.strictSame(withdraw?.moved, [5n]);
  t.strictSame(withdraw?.names, []);
});

t.test(
  'a moved directory leaves subtree leases with its acknowledgement, and its leases lie where it lies',
  async (t) => {
    const bench = new Bench();
    const stream = bench.join('s1');
    bench.grant('s1', 1);
    bench.want(1, 'dir', chain(2, 1), { moved: [chain(4, 2, 1)] });
    bench.say(stream, { kind: 'acknowledgement', sequence: 1, released: [] });
    bench.finish(1, undefined, [chain(4, 3, 1)]);
    bench.want(2, 'f', chain(4, 3, 1));
    t.strictSame(bench.mayPerform, [2], 'excluded from the lease on the root');
    bench.finish(2);
    bench.grant('s1', 4, 3, 1);
    bench.want(3, 'dir', chain(3, 1), { moved: [chain(3, 1)] });
    t.strictSame(bench.told('withdraw')[0]?.moved, [3n, 4n]);
  },
);

t.test('a release is answered by a recall, and holds with its acknowledgement', async (t) => {
  const bench = new Bench();
  const stream = bench.join('s1');
  bench.grant('s1', 1);
  bench.say(stream, { kind: 'release', directories: chain(2) });
  t.match(bench.told('recall'), [{ sequence: 1, leases: [{ directory: 2n, subtree: true }] }]);
  t.equal(bench.grant('s1', 2, 1), undefined, 'nothing there is granted until then');
  bench.want(1, 'a', chain(2, 1));
  t.equal(bench.told('withdraw').length, 1, 'still a holder');
  bench.say(stream, { kind: 'acknowledgement', sequence: 1, released: [] });
  bench.say(stream, { kind: 'acknowledgement', sequence: 2, released: [] });
  t.strictSame(bench.mayPerform, [1]);
  bench.finish(1, { directory: 2, name: 'a' });
  t.strictSame(bench.told('update'), []);
  bench.want(2, 'a', chain(3, 2, 1));
  t.strictSame(bench.mayPerform, [2], 'at and below');
});

t.test('the topmost quiet directory is granted whole, and takes in what is below it', async (t) => {
  const bench = new Bench();
  const lease = (directory: number, subtree: boolean) => ({ directory: BigInt(directory), subtree });
  bench.join('s1');
  bench.want(1, 'a', chain(3, 2, 1));
  bench.finish(1);
  t.same(bench.grant('s1', 3, 2, 1)?.lease, lease(3, false));
  t.same(bench.grant('s1', 5, 2, 1)?.lease, lease(5, true));
  t.same(bench.grant('s1', 4, 1)?.lease, lease(4, true));
  bench.pass(5_000);
  bench.want(2, 'a', chain(1));
  bench.finish(2);
  bench.pass(6_000);
  t.same(bench.grant('s1', 3, 2, 1)?.lease, lease(2, true));
  t.same([...bench.table.leases()].map(({ directory }) => directory).sort(), [2n, 4n]);
});

t.test('bounds: sessions, leases, exclusions', async (t) => {
  const bench = new Bench({
    limits: { sessions: 2, leasesPerSession: 2, excludedPerSession: 1 },
    quietMs: 1e9,
  });
  bench.want(1, 'a', chain(1));
  bench.finish(1);
  bench.join('s1');
  bench.join('s2');
  bench.join('s3');
  t.strictSame(bench.closed, ['too-many-sessions']);
  t.ok(bench.grant('s1', 1));
  bench.want(2, 'a', chain(3, 1));
  bench.finish(2);
  t.ok(bench.grant('s1', 3, 1));
  bench.want(3, 'a', chain(4, 1));
  bench.finish(3);
  t.equal(bench.grant('s1', 4, 1), undefined);
  t.match(bench.of('occurred'), [{ what: 'leases-limit' }]);

  const whole = new Bench({ limits: { excludedPerSession: 1 } });
  const stream = whole.join('s1');
  whole.grant('s1', 1);
  whole.say(stream, { kind: 'release', directories: chain(2, 3) });
  whole.say(stream, { kind: 'acknowledgement', sequence: 1, released: [] });
  t.match(
    whole.told('recall'),
    [{ sequence: 2, leases: [] }],
    'too many exclusions: everything is taken back',
  );
  t.equal(whole.grant('s1', 5, 1), undefined);
  whole.say(stream, { kind: 'acknowledgement', sequence: 2, released: [] });
  t.equal(whole.table.leaseCount, 0);
  t.ok(whole.grant('s1', 5, 1));
});

t.test('what makes no sense is refused in words, and nobody else is delayed', async (t) => {
  const bench = new Bench();
  const early = bench.open();
  bench.say(early, { kind: 'heartbeat', number: 1 });
  t.strictSame(bench.closed, ['protocol']);
  t.match(bench.of('close-stream')[0]?.text, /before hello/);
  const twice = bench.join('s1');
  bench.hello(twice, 's2');
  t.strictSame(bench.closed, ['protocol']);
  const liar = bench.join('s3');
  bench.say(liar, { kind: 'acknowledgement', sequence: 9, released: [] });
  t.strictSame(bench.closed, ['protocol']);
  const flood = bench.join('s4');
  let answered = 0;
  while (bench.closed.length === 0) {
    bench.say(flood, { kind: 'heartbeat', number: ++answered });
    if (answered > 10_000) break;
  }
  t.strictSame(bench.closed, ['flood']);
  const silent = bench.open();
  bench.pass(10_000);
  t.strictSame(bench.closed, ['hello-late']);
  bench.say(silent, { kind: 'heartbeat', number: 1 });
  t.strictSame(bench.effects, [], 'what was under way on a stream that was ended');
  t.equal(bench.grant('nobody', 1), undefined);
});

t.test('a stranger cannot take a session over', async (t) => {
  const bench = new Bench();
  bench.join('s1');
  bench.hello(bench.open('other tenant'), 's2', { earlier: earlierOf('s1', 0) });
  t.strictSame(bench.closed, ['another-session']);
  bench.hello(bench.open(), 's2', { host: 'other host', earlier: earlierOf('s1', 0) });
  t.strictSame(bench.closed, ['another-session']);
  t.match([...bench.table.sessions()], [{ session: 's1', connected: true }]);
});

t.test('a session that has missed nothing is resumed, and its old stream is ended first', async (t) => {
  const bench = new Bench();
  const old = bench.join('s1');
  bench.grant('s1', 1);
  bench.hello(bench.open(), 's2', { earlier: earlierOf('s1', 0) });
  t.match(bench.of('close-stream'), [{ stream: old, reason: 'superseded' }]);
  t.match(bench.told('welcome'), [{ session: 's1', resumed: true }]);
  bench.want(1, 'a', chain(1));
  t.equal(bench.told('withdraw').length, 1);
});

t.test(
  'a session that has missed something holds all until its successor has acknowledged the welcome',
  async (t) => {
    const bench = new Bench();
    const old = bench.join('s1');
    bench.grant('s1', 1);
    bench.step({ kind: 'stream-broken', stream: old });
    bench.want(1, 'a', chain(1));
    t.strictSame(
      bench.effects.filter(({ kind }) => kind === 'send'),
      [],
      'kept for nobody, but its number is used',
    );
    const stream = bench.open();
    bench.hello(stream, 's2', { earlier: earlierOf('s1', 0) });
    t.match(bench.told('welcome'), [{ session: 's2', resumed: false }]);
    t.strictSame(bench.mayPerform, [], 'until the welcome arrives, the satellite uses its names');
    t.equal(bench.grant('s1', 1), undefined);
    bench.say(stream, { kind: 'acknowledgement', sequence: 0, released: [] });
    t.strictSame(bench.mayPerform, [1]);
    t.strictSame(bench.of('forget-session'), [{ kind: 'forget-session', session: 's1' }]);
  },
);

t.test('goodbye ends a session at once', async (t) => {
  const bench = new Bench();
  const stream = bench.join('s1');
  bench.grant('s1', 1);
  bench.want(1, 'a', chain(1));
  bench.say(stream, { kind: 'goodbye' });
  t.strictSame(bench.mayPerform, [1]);
  t.strictSame(bench.closed, ['goodbye']);
});

t.test(
  'grace: changes wait until all earlier sessions have come back, said goodbye, or a term has passed',
  async (t) => {
    const row = (session: string, termMs = TERM_MS): RememberedSession => ({
      session: session as SessionId,
      tenant: 'tenant',
      host: 'host',
      termMs,
    });
    const bench = new Bench({ awaited: [row('old1'), row('old2', 2 * TERM_MS)] });
    bench.want(1, 'a', chain(2, 1));
    t.strictSame(bench.mayPerform, []);
    t.equal(bench.table.underChange(2n as InodeNumber, 'a'), undefined, 'lookups are answered');
    const stream = bench.open();
    bench.hello(stream, 'new1', {
      earlier: earlierOf('old1', 5, [{ directory: 2n as InodeNumber, subtree: false }], 6),
    });
    t.match(bench.told('welcome'), [{ session: 'new1', resumed: false, reclaimed: [{ directory: 2n }] }]);
    bench.say(stream, { kind: 'acknowledgement', sequence: 0, released: [] });
    t.strictSame(bench.of('forget-session'), [{ kind: 'forget-session', session: 'old1' }]);
    t.strictSame(bench.mayPerform, []);
    for (let number = 1; bench.nowMs < 2 * TERM_MS; number++) {
      bench.pass(5_000);
      bench.say(stream, { kind: 'heartbeat', number });
    }
    t.match(bench.table.grace, { awaited: 1 });
    bench.pass(2 * TERM_MS * 0.01);
    t.strictSame(bench.table.grace, { awaited: 0, leftMs: 0 });
    t.match(bench.told('withdraw'), [{ stream, sequence: 1 }], 'the lease that was reclaimed holds');
    bench.say(stream, { kind: 'acknowledgement', sequence: 1, released: [] });
    t.strictSame(bench.mayPerform, [1]);
  },
);

t.test('a directory that is gone with its change takes its leases with it', async (t) => {
  const bench = new Bench({ quietMs: 1e9 });
  bench.want(1, 'x', chain(4, 1));
  bench.finish(1);
  const stream = bench.join('s1');
  bench.grant('s1', 4, 1);
  bench.want(2, 'dir', chain(1), { moved: [chain(4, 1)] });
  bench.say(stream, { kind: 'acknowledgement', sequence: 1, released: [] });
  bench.finish(2);
  t.equal(bench.table.leaseCount, 0);
});

t.test('time that goes back stops the process', async (t) => {
  const bench = new Bench();
  bench.pass(10);
  bench.nowMs = 5;
  t.throws(() => bench.step({ kind: 'time-passed' }), { code: 'invariant' });
});
