/** The namespace over the facts: what is asked, what is kept, who waits for whom, and what an outage does. */
import t from 'tap';
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { HeldNames } from '../../lib/namespace/held-names.ts';
import { ImmutablePaths } from '../../lib/namespace/immutable-paths.ts';
import { type LeaseTerm, LeasedNamespace } from '../../lib/namespace/leased-namespace.ts';
import { NAMES_BEFORE_LISTING } from '../../lib/namespace/list-ahead.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import { type DroppedName, NamespaceError } from '../../lib/namespace/namespace.ts';
import type { RemoteName, RemoteNames, RemotePage } from '../../lib/namespace/remote-names.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ManualClock } from '../vfs/manual-clock.ts';
import { attributesOf, grantOf, inodeNumber, leasedName, ROOT } from './fixture.ts';

const TERM_MS = 20_000;
const SESSION = 'session' as SessionId;
const PARTITION_WAIT_MS = 30_000;

/** Answers when the test says so, or at once. */
class FakeRemote implements RemoteNames {
  readonly asked: string[] = [];
  lookup: RemoteNames['lookup'] = async (parent, name, { session } = {}): Promise<RemoteName> => {
    this.asked.push(`lookup ${parent} ${name}`);
    const attributes = name.startsWith('absent') ? undefined : attributesOf(1000 + name.length);
    return { attributes, grant: session && grantOf(Number(parent)) };
  };
  attributes: RemoteNames['attributes'] = async (inode, { session } = {}) => {
    this.asked.push(`attributes ${inode}`);
    return { attributes: attributesOf(inode), parent: ROOT, name: `n${inode}`, grant: session && grantOf(1) };
  };
  list: RemoteNames['list'] = async (directory, { after = '' }, { session } = {}): Promise<RemotePage> => {
    this.asked.push(`list ${directory} ${after}`);
    const name = String.fromCharCode((after === '' ? 'a'.charCodeAt(0) - 1 : after.charCodeAt(0)) + 1);
    const entries = [{ name, attributes: attributesOf(2000 + name.charCodeAt(0)) }];
    return {
      entries,
      next: name < 'e' ? name : undefined,
      withdrawn: [],
      grant: session && grantOf(Number(directory)),
    };
  };
  async usage() {
    return { bytesTotal: 1n, bytesUsed: 1n, inodesTotal: 1n, inodesUsed: 1n };
  }
  async reportStale(): Promise<void> {}
  async close(): Promise<void> {}
}

function setUp(
  options: {
    readonly immutable?: readonly string[];
    readonly stale?: readonly string[];
    readonly namesMax?: number;
  } = {},
) {
  const clock = new ManualClock();
  const remote = new FakeRemote();
  const metrics = createMetrics();
  const released: (readonly InodeNumber[])[] = [];
  const cache = new NameCache({
    immutable: new ImmutablePaths(options.immutable ?? []),
    stale: new ImmutablePaths(options.stale ?? []),
    ...(options.namesMax === undefined ? {} : { namesMax: options.namesMax }),
  });
  const held = new HeldNames({ cache, metrics, onReleased: (directories) => released.push(directories) });
  const term: { -readonly [Key in keyof LeaseTerm]: LeaseTerm[Key] } = {
    session: SESSION,
    validUntilMs: TERM_MS,
  };
  const namespace = new LeasedNamespace({
    remote,
    held,
    term,
    clock,
    metrics,
    partitionWaitMs: PARTITION_WAIT_MS,
  });
  t.teardown(() => namespace.close());
  return { clock, remote, held, cache, term, namespace, released };
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 50; turns++) await Promise.resolve();
}

t.test('what was asked once under a lease is known until the term ends', async (t) => {
  const { clock, remote, namespace, term } = setUp();
  t.equal(namespace.knownName(ROOT, 'a'), undefined);
  const attributes = await namespace.lookup(ROOT, 'a');
  t.same(namespace.knownName(ROOT, 'a'), { attributes, validForMs: TERM_MS });
  t.equal(await namespace.lookup(ROOT, 'absent'), undefined);
  t.same(namespace.knownName(ROOT, 'absent'), { attributes: undefined, validForMs: TERM_MS });
  clock.advance(5_000);
  t.same(namespace.knownAttributes(attributes?.inode ?? ROOT), { attributes, validForMs: TERM_MS - 5_000 });
  t.equal(namespace.leaseText(ROOT), 'directory');
  clock.advance(15_000);
  t.equal(namespace.knownName(ROOT, 'a'), undefined, 'before anything was dropped');
  t.equal(namespace.knownAttributes(attributes?.inode ?? ROOT), undefined);
  t.equal(namespace.leaseText(ROOT), 'none');
  term.validUntilMs = 2 * TERM_MS;
  t.not(namespace.knownName(ROOT, 'a'), undefined, 'a renewal in time would have kept it');
  t.same(remote.asked, ['lookup 1 a', 'lookup 1 absent']);
});

t.test('without a session each question is asked', async (t) => {
  const { remote, namespace, term } = setUp();
  term.session = undefined;
  await namespace.lookup(ROOT, 'a');
  await namespace.lookup(ROOT, 'a');
  t.equal(namespace.knownName(ROOT, 'a'), undefined);
  t.equal(remote.asked.length, 2);
  t.equal(namespace.isLeased, false);
});

t.test('one question is asked for all who want to know the same', async (t) => {
  t.test('if its answer is kept', async (t) => {
    const { remote, namespace } = setUp();
    const answers = await Promise.all([1, 2, 3].map(() => namespace.lookup(ROOT, 'a')));
    t.equal(remote.asked.length, 1);
    t.same(answers[2], answers[0]);
  });

  // "A name operation takes effect at one instant between call and return": who came after a change of the name may not
  // be given what was true before.
  t.test('but an answer that was overtaken is for him alone who asked', async (t) => {
    const { remote, held, namespace } = setUp();
    const first = Promise.withResolvers<RemoteName>();
    const real = remote.lookup;
    remote.lookup = async () => first.promise;
    const early = namespace.lookup(ROOT, 'a');
    remote.lookup = real;
    await held.withdraw({ kind: 'withdraw', sequence: 5, names: [leasedName(1, 'a')], moved: [] });
    const late = namespace.lookup(ROOT, 'a');
    first.resolve({ attributes: attributesOf(7), grant: grantOf(1, 4) });
    t.equal((await early)?.inode, 7n);
    t.equal((await late)?.inode, 1001n, 'asked again');
  });

  t.test('and whoever is interrupted leaves the others to it', async (t) => {
    const { remote, namespace } = setUp();
    const answer = Promise.withResolvers<RemoteName>();
    remote.lookup = async (_parent, _name, { signal } = {}) => {
      const aborted = new Promise<never>((_, reject) =>
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
      );
      return Promise.race([answer.promise, aborted]);
    };
    const interrupt = new AbortController();
    const first = namespace.lookup(ROOT, 'a', { signal: interrupt.signal });
    const second = namespace.lookup(ROOT, 'a');
    interrupt.abort(new Error('interrupted'));
    await t.rejects(first, /interrupted/);
    answer.resolve({ attributes: attributesOf(7), grant: grantOf(1) });
    t.equal((await second)?.inode, 7n);
  });
});

t.test('a directory whose names are asked for one by one is listed behind', async (t) => {
  const { remote, namespace } = setUp();
  for (let name = 0; name < NAMES_BEFORE_LISTING; name++) await namespace.lookup(ROOT, `absent${name}`);
  await settle();
  t.same(remote.asked.slice(NAMES_BEFORE_LISTING), [
    'list 1 ',
    'list 1 a',
    'list 1 b',
    'list 1 c',
    'list 1 d',
  ]);
  t.match(namespace.knownName(ROOT, 'c'), { attributes: { inode: 2099n } });
  t.match(namespace.knownName(ROOT, 'zzz'), { attributes: undefined });
  t.ok(namespace.isListingHeld(ROOT));
  const page = await namespace.list(ROOT, { entriesMax: 10 });
  t.same([page.entries.length, page.next, page.isHeld], [5, undefined, true]);
  t.equal(remote.asked.length, NAMES_BEFORE_LISTING + 5);
});

t.test('a listing answers from what is held, and says when it is not', async (t) => {
  const { remote, held, namespace, term } = setUp();
  for (let after: string | undefined = ''; after !== undefined;)
    after = (await namespace.list(ROOT, { after, entriesMax: 10 })).next;
  t.equal(remote.asked.length, 5);
  t.equal((await namespace.list(ROOT, { entriesMax: 10 })).entries.length, 5);
  t.equal(remote.asked.length, 5);
  await held.withdraw({ kind: 'withdraw', sequence: 1, names: [leasedName(1, 'new')], moved: [] });
  t.equal((await namespace.list(ROOT, { entriesMax: 10 })).next, 'a', 'the origin is asked for a page');
  term.session = undefined;
  t.equal((await namespace.list(ROOT, { entriesMax: 10 })).isHeld, false);
});

t.test('a withdrawal is applied when the listener has dropped its names, and all before', async (t) => {
  const { held, namespace } = setUp();
  await namespace.lookup(ROOT, 'a');
  await namespace.lookup(ROOT, 'bb');
  const drops: { readonly names: readonly DroppedName[]; readonly done: () => void }[] = [];
  namespace.listen({
    drop: (names) => new Promise((done) => drops.push({ names, done })),
    dropAll: async () => undefined,
    dropDirectories: async () => undefined,
  });
  let applied = '';
  const withdraw = (sequence: number, name: string) =>
    held
      .withdraw({ kind: 'withdraw', sequence, names: [leasedName(1, name)], moved: [] })
      .then(() => (applied += sequence));
  const all = [withdraw(1, 'a'), withdraw(2, 'bb'), withdraw(3, 'a')];
  t.equal(namespace.knownName(ROOT, 'a'), undefined, 'at once');
  await settle();
  t.same(
    drops.map(({ names }) => names[0]?.name),
    ['a', 'bb'],
    'what is forgotten is not told again',
  );
  drops[1]?.done();
  await settle();
  t.equal(applied, '', 'the third, which had nothing to do, waits for the first too');
  drops[0]?.done();
  await Promise.all(all);
  t.equal(applied.length, 3);
});

t.test('an origin out of reach', async (t) => {
  const unreachable = new NamespaceError('unavailable', 'no origin');

  t.test('is waited for, and asked again when it is back', async (t) => {
    const { remote, namespace } = setUp();
    const real = remote.lookup;
    remote.lookup = async () => Promise.reject(unreachable);
    const answer = namespace.lookup(ROOT, 'a');
    await settle();
    remote.lookup = real;
    namespace.originIsBack();
    t.equal((await answer)?.inode, 1001n);
  });

  t.test('for so long and no longer', async (t) => {
    const { clock, remote, namespace } = setUp();
    let attempts = 0;
    remote.lookup = async () => {
      attempts += 1;
      throw unreachable;
    };
    let error: unknown;
    namespace.lookup(ROOT, 'a').catch((thrown: unknown) => (error = thrown));
    for (let ms = 0; ms < PARTITION_WAIT_MS; ms += 100) {
      t.equal(error, undefined);
      clock.advance(100);
      await settle();
    }
    t.equal(error, unreachable);
    t.ok(attempts > 10 && attempts < 100, `${attempts} attempts`);
    t.equal(clock.waiting, 0);
  });

  t.test('or until the program is interrupted', async (t) => {
    const { clock, remote, namespace } = setUp();
    remote.attributes = async () => Promise.reject(unreachable);
    const interrupt = new AbortController();
    const answer = namespace.attributes(inodeNumber(5), { signal: interrupt.signal });
    await settle();
    interrupt.abort(new Error('interrupted'));
    await t.rejects(answer, /interrupted/);
    t.equal(clock.waiting, 0);
  });

  t.test('any other failure is told at once', async (t) => {
    const { remote, namespace } = setUp();
    remote.lookup = async () => Promise.reject(new NamespaceError('not-directory', 'a file'));
    await t.rejects(namespace.lookup(ROOT, 'a'), { code: 'not-directory' });
  });

  t.test('leaves immutable paths', async (t) => {
    const { clock, held, remote, namespace } = setUp({ immutable: ['sets/**'] });
    remote.lookup = async (parent, name) => ({
      attributes: attributesOf(name === 'sets' ? 10 : 11, { kind: name === 'sets' ? 'directory' : 'file' }),
      grant: grantOf(Number(parent)),
    });
    await namespace.lookup(ROOT, 'sets');
    await namespace.lookup(inodeNumber(10), 'file');
    await namespace.lookup(ROOT, 'other');
    clock.advance(TERM_MS);
    await held.drop([]);
    t.match(namespace.knownName(ROOT, 'sets'), { attributes: { inode: 10n } });
    t.match(namespace.knownName(inodeNumber(10), 'file'), { attributes: { inode: 11n } });
    t.equal(namespace.knownName(ROOT, 'other'), undefined);
  });

  t.test(
    'leaves what may be stale, for the kernel to keep not at all, until the origin answers',
    async (t) => {
      const { clock, held, remote, namespace, term, cache } = setUp({ stale: ['sets/**'] });
      const lookup = async (parent: InodeNumber, name: string) => ({
        attributes: attributesOf(name === 'sets' ? 10 : 11, { kind: name === 'sets' ? 'directory' : 'file' }),
        grant: grantOf(Number(parent)),
      });
      const learn = async (): Promise<void> => {
        await namespace.lookup(ROOT, 'sets');
        await namespace.lookup(inodeNumber(10), 'file');
        await namespace.lookup(ROOT, 'other');
      };
      remote.lookup = lookup;
      await learn();
      t.match(
        namespace.knownName(inodeNumber(10), 'file'),
        { validForMs: TERM_MS },
        'no more than under a lease',
      );
      clock.advance(TERM_MS);
      t.equal(namespace.knownName(inodeNumber(10), 'file'), undefined, 'before the loss is known');
      await held.drop([], { withStale: true });
      t.match(namespace.knownName(inodeNumber(10), 'file'), { attributes: { inode: 11n }, validForMs: 0 });
      t.match(namespace.knownAttributes(inodeNumber(11)), { validForMs: 0 });
      t.equal(namespace.knownName(ROOT, 'other'), undefined);

      await namespace.lookup(ROOT, 'other');
      t.equal(namespace.knownName(inodeNumber(10), 'file'), undefined, 'the origin is there');

      term.validUntilMs = 3 * TERM_MS;
      await learn();
      clock.advance(3 * TERM_MS);
      await held.drop([], { withStale: true });
      t.not(namespace.knownName(inodeNumber(10), 'file'), undefined);
      // As at a welcome.
      cache.forgetStale();
      term.validUntilMs = 9 * TERM_MS;
      t.equal(namespace.knownName(inodeNumber(10), 'file'), undefined, 'no lease covers it');
      await learn();
      await held.drop([]);
      t.equal(namespace.knownName(inodeNumber(10), 'file'), undefined, 'lost by a word of the origin');
    },
  );

  t.test('leaves nothing when other paths are meant', async (t) => {
    const { held, namespace } = setUp({ immutable: ['**'] });
    await namespace.lookup(ROOT, 'a');
    await held.judgeAnew();
    t.equal(namespace.knownName(ROOT, 'a'), undefined);
  });
});

t.test('directories that do not fit are given back after the kernel was told', async (t) => {
  const { namespace, released } = setUp({ namesMax: 4 });
  const told: (readonly InodeNumber[])[] = [];
  const done = Promise.withResolvers<void>();
  namespace.listen({
    drop: async () => undefined,
    dropAll: async () => undefined,
    dropDirectories: (directories) => {
      told.push(directories);
      return done.promise;
    },
  });
  for (let directory = 2; directory < 8; directory++) await namespace.lookup(inodeNumber(directory), 'a');
  t.same(told, [[2n, 3n]]);
  t.same(released, []);
  done.resolve();
  await settle();
  t.same(released, [[2n, 3n]]);
});
