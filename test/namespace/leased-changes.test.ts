/** Changes of this host over a fake origin: what is asked, what is unknown meanwhile, and what an outage leaves open. */
import t from 'tap';
import type { SessionId } from '../../lib/base/brand.ts';
import type { CreatedFile, WriteGrant } from '../../lib/namespace/changes.ts';
import { HeldNames } from '../../lib/namespace/held-names.ts';
import { LATE_CHANGE_MS, LeasedChanges } from '../../lib/namespace/leased-changes.ts';
import { LeasedNamespace } from '../../lib/namespace/leased-namespace.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import { type DroppedName, NamespaceError } from '../../lib/namespace/namespace.ts';
import type { Changed, RemoteCall, RemoteChanges } from '../../lib/namespace/remote-changes.ts';
import type { RemoteNames } from '../../lib/namespace/remote-names.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ManualClock } from '../vfs/manual-clock.ts';
import { attributesOf, grantOf, inodeNumber, leasedName, ROOT } from './fixture.ts';

const PARTITION_WAIT_MS = 1_000;
const NEW = { mode: 0o644, uid: 0, gid: 0 };
const at = (name: string) => ({ parent: ROOT, name });
const unreachable = new NamespaceError('unavailable', 'no origin');

interface Asked {
  readonly what: string;
  readonly call: RemoteCall;
  answer(answer: unknown): void;
  fail(error: Error): void;
}

function setUp() {
  const clock = new ManualClock();
  const metrics = createMetrics();
  const cache = new NameCache();
  const held = new HeldNames({ cache, metrics, onReleased: () => undefined });
  const term = { session: 'session' as SessionId, validUntilMs: 1e9 };
  const asked: Asked[] = [];
  const told: DroppedName[][] = [];
  held.listen({
    drop: async (names) => void told.push([...names]),
    dropAll: async () => void told.push([]),
    dropDirectories: async () => undefined,
  });
  const remote = new Proxy({} as RemoteChanges, {
    get:
      (_, what) =>
      (...parameters: unknown[]) =>
        new Promise((answer, fail) => {
          asked.push({ what: String(what), call: parameters.at(-1) as RemoteCall, answer, fail });
        }),
  });
  const names = new LeasedNamespace({
    remote: {} as RemoteNames,
    held,
    term,
    clock,
    metrics,
    partitionWaitMs: PARTITION_WAIT_MS,
  });
  const changes = new LeasedChanges({
    remote,
    held,
    term,
    wait: names.originWait,
    clock,
    nextTurn: (run) => queueMicrotask(run),
    life: 'life',
  });
  t.teardown(() => changes.close());
  const know = (name: string, inode: number | undefined, sequence = 0): boolean => {
    const question = cache.ask({ kind: 'name', directory: ROOT, name });
    const attributes = inode === undefined ? undefined : attributesOf(inode);
    return cache.keepName(question, { attributes, grant: grantOf(1, sequence) });
  };
  return { clock, cache, held, asked, told, names, changes, know };
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 50; turns++) await Promise.resolve();
}

const last = (asked: readonly Asked[]): Asked => asked.at(-1) as Asked;

function changed<T>(answer: T, sequence: number): Changed<T> {
  return { answer, sequence };
}

function created(inode: number): CreatedFile {
  const grant: WriteGrant = { write: `w${inode}`, token: 1n, exportName: 'data', inode: inodeNumber(inode) };
  return { grant, attributes: { ...attributesOf(inode), source: undefined } };
}

t.test('what a change concerns is known to nobody until it is answered', async (t) => {
  const { asked, told, names, held, changes, know } = setUp();
  know('f', 7);
  know('other', 8);
  const removed = changes.unlink(at('f'));
  await settle();
  t.same(
    asked.map(({ what, call }) => [what, call]),
    [['remove', { session: 'session', operation: 'life-1' }]],
  );
  t.equal(names.knownName(ROOT, 'f'), undefined);
  t.equal(know('f', 7), false, 'an answer of that time is not kept');
  t.match(names.knownName(ROOT, 'other'), { attributes: { inode: 8n } });
  t.match(
    told,
    [[{ name: 'f', inode: 7n, attributesOnly: true }]],
    'the kernel has the lock of the directory',
  );
  held.update({ kind: 'update', sequence: 4, names: [{ name: leasedName(1, 'f'), inode: attributesOf(9) }] });
  held.update({ kind: 'update', sequence: 5, names: [{ name: leasedName(1, 'f'), inode: undefined }] });
  t.equal(names.knownName(ROOT, 'f'), undefined, 'nor is an update');
  last(asked).answer(changed(attributesOf(7), 5));
  t.match(await removed, { inode: 7n });
  t.match(names.knownName(ROOT, 'f'), { attributes: undefined }, 'its own update is');
});

t.test('an update older than the change is not kept, its own and later ones are', async (t) => {
  const { asked, names, held, changes, know } = setUp();
  know('f', 7);
  const removed = changes.unlink(at('f'));
  await settle();
  last(asked).answer(changed(attributesOf(7), 5));
  await removed;
  const update = (sequence: number, inode: number | undefined): void =>
    held.update({
      kind: 'update',
      sequence,
      names: [{ name: leasedName(1, 'f'), inode: inode === undefined ? undefined : attributesOf(inode) }],
    });
  update(4, 9);
  t.equal(names.knownName(ROOT, 'f'), undefined);
  update(5, undefined);
  t.match(names.knownName(ROOT, 'f'), { attributes: undefined });
  update(6, 10);
  t.match(names.knownName(ROOT, 'f'), { attributes: { inode: 10n } });
});

t.test('a call whose answer was lost is made again, with the same operation', async (t) => {
  const { asked, names, changes, clock } = setUp();
  const made = changes.makeDirectory(at('d'), NEW);
  await settle();
  last(asked).fail(unreachable);
  await settle();
  names.originIsBack();
  await settle();
  t.same(
    asked.map(({ call }) => call.operation),
    ['life-1', 'life-1'],
  );
  last(asked).answer(changed(attributesOf(7, { kind: 'directory' }), 1));
  t.match(await made, { inode: 7n });
  t.equal(clock.waiting, 0);
});

t.test('a change without an answer stays unknown for as long as it may happen', async (t) => {
  const { asked, cache, told, changes, clock, know } = setUp();
  know('f', 7);
  let error: unknown;
  changes.unlink(at('f')).catch((thrown: unknown) => (error = thrown));
  await settle();
  for (let ms = 0; ms <= PARTITION_WAIT_MS; ms += 100) {
    last(asked).fail(unreachable);
    await settle();
    clock.advance(100);
    await settle();
  }
  t.equal(error, unreachable);
  t.match(
    told.at(-1),
    [{ name: 'f', attributesOnly: false }],
    'the kernel is told that it failed: it asks again',
  );
  t.equal(changes.late, 1);
  t.equal(know('f', 7), false);
  clock.advance(LATE_CHANGE_MS);
  t.equal(changes.late, 0);
  t.equal(cache.own.size, 0);
  t.equal(know('f', 7), true);
});

t.test('a change that is refused has changed nothing', async (t) => {
  const { asked, cache, changes, know } = setUp();
  know('f', 7);
  const removed = changes.unlink(at('f'));
  await settle();
  last(asked).fail(new NamespaceError('is-directory', 'a directory'));
  await t.rejects(removed, { code: 'is-directory' });
  t.equal(cache.own.size, 0);
  t.equal(know('f', 7), true);
});

t.test('whoever is interrupted leaves the change to its end, and a file to nobody', async (t) => {
  const { asked, held, changes } = setUp();
  const interrupt = new AbortController();
  const file = changes.createFile(at('f'), NEW, { signal: interrupt.signal });
  await settle();
  interrupt.abort(new Error('interrupted'));
  await t.rejects(file, /interrupted/);
  last(asked).answer(created(7));
  await settle();
  t.equal(last(asked).what, 'endWrite');
  t.equal(held.pending.size, 0);
});

t.test(
  'a file that may have been made without an answer is given back when the origin is there',
  async (t) => {
    const { asked, held, changes, clock, names } = setUp();
    const file = changes.createFile(at('f'), NEW);
    file.catch(() => undefined);
    await settle();
    for (let ms = 0; ms <= PARTITION_WAIT_MS; ms += 500) {
      last(asked).fail(unreachable);
      await settle();
      clock.advance(500);
      await settle();
    }
    await t.rejects(file, unreachable);
    names.originIsBack();
    await settle();
    t.equal(last(asked).call.operation, 'life-1', 'the same again');
    last(asked).answer(created(7));
    await settle();
    t.equal(last(asked).what, 'endWrite');
    t.equal(held.pending.size, 0);
  },
);

t.test('a write that is just ending is not opened again', async (t) => {
  const { asked, changes } = setUp();
  const { grant, attributes } = created(7);
  const ended = changes.endWrite(grant);
  const opened = changes.openWrite(grant.inode);
  await settle();
  t.same(
    asked.map(({ what }) => what),
    ['endWrite'],
  );
  last(asked).answer(undefined);
  await ended;
  await settle();
  t.equal(last(asked).what, 'openWrite');
  last(asked).answer({ grant: { ...grant, write: 'another' }, attributes });
  t.match(await opened, { grant: { write: 'another' } });
});

t.test('whoever asks for a pending name that is being changed waits for the end', async (t) => {
  const { asked, names, changes } = setUp();
  const file = changes.createFile(at('f'), NEW);
  await settle();
  last(asked).answer(created(7));
  await file;
  const renamed = changes.rename(at('f'), { ...at('g'), mode: 'replace' });
  await settle();
  t.equal(names.knownName(ROOT, 'f'), undefined);
  const looked = names.lookup(ROOT, 'f');
  last(asked).fail(new NamespaceError('busy', 'another host writes g'));
  await t.rejects(renamed, { code: 'busy' });
  t.match(await looked, { inode: 7n }, 'it has kept its name');
});
