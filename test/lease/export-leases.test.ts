/** What drives the lease table of one export: streams, changes, sessions that outlive the process. */
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import type { InodeInit } from '../../lib/lease/lease-messages.ts';
import type { OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';
import type { Change } from '../../lib/origin/changes/change-gate.ts';
import { NamespaceIndex } from '../../lib/origin/index/namespace-index.ts';
import { type DescribeName, ExportLeases } from '../../lib/origin/leases/export-leases.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { temporaryDirectory } from '../origin/origin-fixture.ts';
import { ManualClock } from '../vfs/manual-clock.ts';

const timing = { termMs: 20_000, heartbeatMs: 5_000, clockRateError: 0.01 };
/** A session is over then, by the origin's clock. */
const EXPIRED_MS = timing.termMs * (1 + timing.clockRateError);
const ROOT = 1;
const FILE: Change = { names: [{ directory: ROOT, name: 'file' }] };
const INODE: InodeInit = { inode: 2n, kind: 'file', sizeBytes: 1n };

type Told = OriginMessage<InodeInit>;
type ToldOf<Kind> = Extract<Told, { readonly kind: Kind }>;
type Earlier = Extract<SatelliteMessage, { readonly kind: 'hello' }>['earlier'];

/** Promises go on, and the index's own turns. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
}

class Origin {
  readonly clock = new ManualClock();
  readonly metrics = createMetrics();
  readonly logged: string[] = [];
  describe: DescribeName = async () => INODE;
  readonly #file: string;
  leases!: ExportLeases;
  #index!: NamespaceIndex;

  constructor(file: string) {
    this.#file = file;
  }

  /** Another life. */
  async start(): Promise<void> {
    this.#index = new NamespaceIndex({ file: this.#file, clock: this.clock });
    const { exportId } = await this.#index.openExport('data', { identity: 'memory://data', nowMs: 0 });
    const logger = pino({ level: 'warn' }, { write: (line: string) => void this.logged.push(line) });
    this.leases = new ExportLeases({
      ...{ exportId, exportName: 'data', index: this.#index, settings: { timing, quietMs: 10_000 } },
      describe: (name) => this.describe(name),
      ...{ clock: this.clock, logger, metrics: this.metrics },
    });
  }

  end(): void {
    this.leases.close();
    this.#index.close();
  }

  /** Begins a change. */
  change(
    change = FILE,
    perform: () => Promise<unknown> = async () => undefined,
    signal?: AbortSignal,
  ): Doing {
    return new Doing((performed) =>
      this.leases.run(
        change,
        async () => {
          performed();
          return perform();
        },
        signal,
      ),
    );
  }

  async metric(name: string): Promise<string> {
    return this.metrics.registry.getSingleMetricAsString(name);
  }
}

/** A change under way. */
class Doing {
  isPerformed = false;
  result: unknown = 'none yet';

  constructor(run: (performed: () => void) => Promise<unknown>) {
    run(() => (this.isPerformed = true)).then(
      () => (this.result = 'done'),
      (error: unknown) => (this.result = error),
    );
  }
}

/** A satellite at the other end of a stream, which acknowledges only when it is told to. */
class Satellite {
  readonly #origin: Origin;
  #stream = 0;
  session = '' as SessionId;
  /** It takes no more. */
  isFull = false;
  readonly told: Told[] = [];
  closed: string | undefined;

  constructor(origin: Origin) {
    this.#origin = origin;
  }

  async hello(earlier?: Earlier): Promise<ToldOf<'welcome'>> {
    this.closed = undefined;
    const sink = {
      send: (message: Told) => {
        if (!this.isFull) this.told.push(message);
        return !this.isFull;
      },
      close: (reason: string) => void (this.closed = reason),
    };
    this.#stream = this.#origin.leases.open(sink, { tenant: 'tenant', address: 'here' });
    await this.say({ kind: 'hello', host: 'host', labels: {}, earlier });
    const welcome = this.take('welcome');
    this.session = welcome.session;
    return welcome;
  }

  say(message: SatelliteMessage): Promise<void> {
    return this.#origin.leases.receive(this.#stream, message);
  }

  acknowledge(sequence: number): Promise<void> {
    return this.say({ kind: 'acknowledgement', sequence, released: [] });
  }

  break(): void {
    this.#origin.leases.broken(this.#stream);
  }

  /** The next message, which must be of this kind. */
  take<Kind extends Told['kind']>(kind: Kind): ToldOf<Kind> {
    const message = this.told.shift();
    if (message?.kind !== kind) throw new Error(`${message?.kind} came instead of ${kind}`);
    return message as ToldOf<Kind>;
  }
}

async function started(t: Test): Promise<Origin> {
  const origin = new Origin(path.join(await temporaryDirectory(t), 'index.sqlite'));
  await origin.start();
  t.teardown(() => origin.end());
  return origin;
}

/** With a satellite that holds the root. */
async function held(t: Test): Promise<{ readonly origin: Origin; readonly satellite: Satellite }> {
  const origin = await started(t);
  const satellite = new Satellite(origin);
  await satellite.hello();
  t.ok(await origin.leases.grantName(satellite.session, { directory: ROOT, name: 'file' }));
  return { origin, satellite };
}

t.test('a change that concerns nobody performs at once, without a timer', async (t) => {
  const origin = await started(t);
  const timers = origin.clock.waiting;
  let described = 0;
  origin.describe = async () => {
    described += 1;
    return INODE;
  };
  const result = await origin.leases.run(FILE, async () => {
    t.ok(origin.leases.underWay(ROOT, 'file'));
    t.same(origin.leases.withdrawnNames(ROOT), ['file']);
    return 'result';
  });
  t.equal(result, 'result');
  t.equal(described, 0, 'and nobody is told');
  t.equal(origin.clock.waiting, timers);
  t.equal(origin.leases.underWay(ROOT, 'file'), undefined);
});

t.test('a change waits for its holders, and tells them what its names are then', async (t) => {
  const { origin, satellite } = await held(t);
  const change = origin.change({
    names: [
      { directory: ROOT, name: 'file' },
      { directory: ROOT, name: 'gone' },
      { directory: ROOT, name: 'unknown' },
    ],
  });
  origin.describe = async ({ name }) => {
    t.ok(change.isPerformed, 'as they are after it');
    return name === 'gone' || name === 'unknown' ? name : INODE;
  };
  await settle();
  t.notOk(change.isPerformed);
  const withdraw = satellite.take('withdraw');
  t.same(
    withdraw.names.map(({ name }) => name),
    ['file', 'gone', 'unknown'],
  );
  await satellite.acknowledge(withdraw.sequence);
  await settle();
  t.equal(change.result, 'done');
  t.match(satellite.take('update').names, [
    { name: { name: 'file' }, inode: INODE },
    { name: { name: 'gone' }, inode: undefined },
  ]);
  t.same(satellite.told, [], 'what cannot be told stays withdrawn');
});

t.test('a change waits no longer than a term for a holder that does not answer', async (t) => {
  const { origin, satellite } = await held(t);
  const change = origin.change();
  await settle();
  origin.clock.advance(EXPIRED_MS - 1);
  await settle();
  t.notOk(change.isPerformed);
  origin.clock.advance(2);
  await settle();
  t.equal(change.result, 'done');
  t.equal(satellite.closed, 'expired');
  t.same(
    [...origin.leases.sessions()].filter(({ session }) => session === satellite.session),
    [],
  );
});

t.test('holders hear of a change that failed, and its caller of the failure', async (t) => {
  const { origin, satellite } = await held(t);
  const failure = new Error('a fault');
  const change = origin.change(FILE, () => Promise.reject(failure));
  await settle();
  await satellite.acknowledge(satellite.take('withdraw').sequence);
  await settle();
  t.equal(change.result, failure);
  t.match(satellite.take('update').names, [{ inode: INODE }]);
});

t.test('names that cannot be told stay withdrawn, and the change is over', async (t) => {
  const { origin, satellite } = await held(t);
  origin.describe = () => Promise.reject(new Error('the index is broken'));
  const change = origin.change();
  await settle();
  await satellite.acknowledge(satellite.take('withdraw').sequence);
  await settle();
  t.equal(change.result, 'done');
  t.same(satellite.told, []);
  t.match(origin.logged, [/the index is broken/]);
  t.equal(origin.leases.underWay(ROOT, 'file'), undefined);
});

t.test('a change that is given up while it waits is not performed, and others go on', async (t) => {
  const { origin, satellite } = await held(t);
  const interrupt = new AbortController();
  const first = origin.change(FILE, undefined, interrupt.signal);
  const second = origin.change();
  await settle();
  interrupt.abort(new Error('interrupted'));
  await settle();
  t.match(first.result, { message: 'interrupted' });
  t.notOk(first.isPerformed);
  // Each withdraws the name by itself.
  while (second.result === 'none yet') {
    const message = satellite.told.shift();
    if (message?.kind === 'withdraw') await satellite.acknowledge(message.sequence);
    await settle();
  }
  t.equal(second.result, 'done');
  await t.rejects(
    origin.leases.run(FILE, async () => t.fail('it is performed'), interrupt.signal),
    { message: 'interrupted' },
    'one that was given up before it began',
  );
});

t.test('a lookup waits for the change of its name, and within bounds', async (t) => {
  const { origin, satellite } = await held(t);
  const change = origin.change();
  await settle();
  const at = { directory: ROOT, name: 'file' };
  let grant: unknown = 'none yet';
  const lookup = origin.leases.grantName(satellite.session, at).then((given) => (grant = given));
  t.ok(await origin.leases.grantName(satellite.session, { directory: ROOT, name: 'other' }));
  t.same(await origin.leases.grantDirectory(satellite.session, ROOT), {
    grant: { sequence: 1, lease: { directory: 1n, subtree: true } },
    withdrawn: ['file'],
  });
  await settle();
  t.equal(grant, 'none yet');
  await satellite.acknowledge(satellite.take('withdraw').sequence);
  await lookup;
  t.equal(change.result, 'done');
  t.match(grant, { lease: { directory: 1n } });
  const stuck = origin.change();
  await settle();
  const waiting = origin.leases.grantName('', at);
  await settle();
  origin.clock.advance(8_001);
  await t.rejects(waiting, { code: 'timeout' });
  t.notOk(stuck.isPerformed);
});

t.test('a satellite that does not read is let go, and counted', async (t) => {
  const { origin, satellite } = await held(t);
  satellite.isFull = true;
  const change = origin.change();
  await settle();
  t.equal(satellite.closed, 'slow');
  t.match(await origin.metric('perigee_limit_reached_total'), /limit="lease_stream"\} 1/);
  t.notOk(change.isPerformed, 'it may use its names until its term ends');
  satellite.break();
  origin.clock.advance(EXPIRED_MS + 1);
  await settle();
  t.equal(change.result, 'done');
});

t.test('sessions outlive the origin: changes wait until they are back, or cannot come', async (t) => {
  const { origin, satellite } = await held(t);
  const never = new Satellite(origin);
  await never.hello();
  const { session } = satellite;
  const epoch = 1 as never;
  origin.end();
  t.equal(satellite.closed, 'stopping');
  await origin.start();
  t.ok(origin.leases.isGrace);
  t.same(origin.leases.holderOf(session)?.host, 'host');
  const change = origin.change();
  await settle();
  t.notOk(change.isPerformed);
  const reclaim = [{ directory: BigInt(ROOT) as InodeNumber, subtree: true }];
  const welcome = await satellite.hello({ session, epoch, lastSequence: 0, reclaim });
  t.match(welcome, { resumed: false, reclaimed: reclaim });
  await satellite.acknowledge(0);
  await settle();
  t.notOk(change.isPerformed, 'one is still awaited');
  origin.clock.advance(EXPIRED_MS - 1_000);
  await satellite.say({ kind: 'heartbeat', number: 1 });
  origin.clock.advance(1_001);
  await settle();
  t.notOk(origin.leases.isGrace);
  t.notOk(change.isPerformed, 'what was reclaimed is held');
  const withdraw = satellite.told.find((message) => message.kind === 'withdraw');
  await satellite.acknowledge(withdraw!.sequence);
  await settle();
  t.equal(change.result, 'done');
});

t.test('an origin that stops refuses what waits, and ends what it performs', async (t) => {
  const { origin, satellite } = await held(t);
  const going = Promise.withResolvers<void>();
  const performing = origin.change({ names: [{ directory: ROOT, name: 'other' }] }, () => going.promise);
  await settle();
  await satellite.acknowledge(satellite.take('withdraw').sequence);
  const waiting = origin.change();
  await settle();
  t.ok(performing.isPerformed);
  origin.leases.close();
  await settle();
  t.match(waiting.result, { code: 'unavailable' });
  t.notOk(waiting.isPerformed);
  t.equal(satellite.closed, 'stopping');
  await t.rejects(
    origin.leases.run(FILE, async () => undefined),
    { code: 'unavailable' },
  );
  const late = new Satellite(origin);
  await late.hello().catch(() => undefined);
  t.equal(late.closed, 'stopping');
  going.resolve();
  await settle();
  t.equal(performing.result, 'done');
});

t.test('those who watch sessions hear of each that is followed, and of each that ends', async (t) => {
  const { origin, satellite } = await held(t);
  const heard: string[] = [];
  origin.leases.watchSessions({
    succeeded: (earlier, session) => heard.push(`${earlier} by ${session}`),
    gone: (session) => heard.push(`${session} is gone`),
  });
  const first = satellite.session;
  satellite.break();
  // It missed a message, so it cannot go on with that one.
  const change = origin.change();
  await settle();
  const earlier = { session: first, epoch: 1 as never, lastSequence: 0, reclaim: [] };
  await satellite.hello(earlier);
  t.same(heard, [`${first} by ${satellite.session}`]);
  await satellite.acknowledge(0);
  await settle();
  t.equal(change.result, 'done', 'nothing of the first is used any more');
  t.same(heard.slice(1), [`${first} is gone`]);
  await satellite.say({ kind: 'goodbye' });
  t.same(heard.slice(2), [`${satellite.session} is gone`]);
});
