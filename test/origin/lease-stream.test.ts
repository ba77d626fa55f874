/** Streams, grants and withdrawals over real connections of a real origin. */
import t, { type Test } from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { PROTOCOL_VERSION } from '../../lib/rpc/protocol-version.ts';
import { TestSatellite } from './lease-fixture.ts';
import { MemoryStore } from './memory-store.ts';
import { originOptions, temporaryDirectory } from './origin-fixture.ts';

async function start(t: Test, dataDirectory?: string, store = filled(), termMs = 2_000) {
  const directory = dataDirectory ?? (await temporaryDirectory(t));
  const timing = { termMs, heartbeatMs: 500, clockRateError: 0.01 };
  const origin = await startOrigin(
    originOptions({ dataDirectory: directory, openStore: () => store, leases: { timing, quietMs: 10_000 } }),
  );
  let ended: Promise<void> | undefined;
  const end = (): Promise<void> => (ended ??= origin.close());
  t.teardown(end);
  return { store, directory, end, satellite: () => new TestSatellite(t, origin.address) };
}

function filled(): MemoryStore {
  const store = new MemoryStore();
  store.fill({ 'a.txt': 'one', 'b.txt': 'two', 'dir/c.txt': 'three' });
  return store;
}

const remove = (satellite: TestSatellite, path: string) =>
  satellite.client.remove({ exportName: 'data', path, recursive: true });

t.test('a change waits until a holder has acknowledged, and tells it what is now', async (t) => {
  const { satellite } = await start(t);
  const [holder, other] = [satellite(), satellite()];
  t.match(await holder.hello(), { termMs: 2_000, heartbeatMs: 500, resumed: false });
  const { inode, grant } = await holder.lookup('a.txt');
  t.equal(inode?.sizeBytes, 3n);
  t.strictSame(grant, { sequence: 0, lease: { directory: 1n, subtree: true } });

  let done = false;
  const removing = remove(other, 'a.txt').then(() => (done = true));
  const { sequence, names } = await holder.next('withdraw');
  t.equal(sequence, 1);
  // The times of the directory move in the same pass.
  t.match(names, [
    { directory: 1n, name: 'a.txt', attributesOnly: false },
    { directory: 1n, name: '', attributesOnly: true },
  ]);
  t.equal(names.length, 2);
  t.match(await other.client.listSessions({ exportName: '' }), {
    sessions: [{ host: 'host', tenant: 'local', connected: true, leases: 1n, acknowledgementsOwed: 1n }],
  });
  const { withdrawn } = await holder.list();
  t.strictSame(withdrawn, ['a.txt']);
  const asking = holder.lookup('a.txt');
  t.equal(done, false);
  holder.acknowledge(sequence);
  t.match(await holder.next('update'), { sequence: 2, names: [{ name: { name: 'a.txt' } }] });
  const asked = await asking;
  t.equal(asked.inode, undefined);
  t.ok((asked.grant?.sequence ?? 0) >= 2, 'granted after the change');
  await removing;
  t.same(holder.unread, [], 'one withdrawal and one update');
  t.match(await other.client.listLeases({ exportName: 'data', path: 'dir', leasesMax: 0 }), {
    leases: [{ path: '', subtree: true, host: 'host' }],
    more: false,
  });
  holder.send({ kind: 'goodbye' });
  await holder.ended();
  t.match(await other.client.listSessions({ exportName: '' }), { sessions: [] });
});

t.test('attributes and listings are granted too, and name where the inode lies', async (t) => {
  const { satellite } = await start(t);
  const one = satellite();
  await one.hello();
  const { entries, grant } = await one.list();
  t.same(
    entries.map(({ name }) => name),
    ['a.txt', 'b.txt', 'dir'],
  );
  t.strictSame(grant, { sequence: 0, lease: { directory: 1n, subtree: true } });
  const [, file] = entries;
  const { exportName, session } = one;
  const attributes = await one.client.getAttributes({ exportName, inode: file?.inode?.inode ?? 0n, session });
  t.match(attributes, { parent: 1n, name: 'b.txt', grant: { lease: { subtree: true } } });
  const root = await one.client.getAttributes({ exportName, inode: 1n, session });
  t.match(root, { parent: 1n, name: '', grant: { lease: { subtree: true } } });
  const once = await one.client.lookup({ exportName, parent: 1n, name: 'a.txt', session: '' });
  t.equal(once.grant, undefined);
});

t.test('a stream that breaks is resumed; what was missed cannot be', async (t) => {
  const { satellite } = await start(t);
  const [holder, other] = [satellite(), satellite()];
  const { session, epoch } = await holder.hello();
  await holder.lookup('a.txt');
  const earlier = { session, epoch, lastSequence: 0, reclaim: [] };
  holder.end();
  await holder.ended();
  t.match(await holder.hello('host', earlier), { session, resumed: true });
  holder.end();
  await holder.ended();
  const removing = remove(other, 'a.txt');
  await until(async () => (await other.client.listSessions({ exportName: '' })).sessions[0]?.sequence === 1n);
  const welcome = await holder.hello('host', earlier);
  t.equal(welcome.resumed, false);
  t.not(welcome.session, session);
  holder.acknowledge(0);
  await removing;
});

t.test(
  'a restarted origin waits for the sessions of its last life, and they reclaim their leases',
  async (t) => {
    const first = await start(t);
    const holder = first.satellite();
    const { session, epoch } = await holder.hello();
    const { grant } = await holder.lookup('a.txt');
    await first.end();
    t.match(await holder.ended(), { code: 'unavailable' });

    const second = await start(t, first.directory, first.store);
    const [back, other] = [second.satellite(), second.satellite()];
    t.match(await other.client.listSessions({ exportName: 'data' }), { sessionsAwaited: 1n });
    const removing = remove(other, 'a.txt');
    t.equal((await other.lookup('a.txt')).inode?.sizeBytes, 3n, 'reads are answered');
    const lease = grant?.lease ?? { directory: 1n as InodeNumber, subtree: false };
    const reclaim = [lease, { directory: 999_999n as InodeNumber, subtree: false }];
    const welcome = await back.hello('host', { session, epoch, lastSequence: 0, reclaim });
    t.match(welcome, { resumed: false, reclaimed: [lease] });
    t.equal(welcome.reclaimed.length, 1, 'a directory that is gone is not reclaimed');
    t.ok(welcome.epoch > epoch);
    back.acknowledge(0);
    back.acknowledge((await back.next('withdraw')).sequence);
    await removing;
    // Not of the name: the directory was not listed, so the index alone does not know that it is gone.
    t.match((await back.next('update')).names, [{ name: { name: '', attributesOnly: true } }]);
    t.match(await other.client.listSessions({ exportName: 'data' }), { sessionsAwaited: 0n });
  },
);

t.test('what makes no sense is refused in words', async (t) => {
  const { satellite } = await start(t);
  const early = satellite();
  early.open();
  early.send({ kind: 'heartbeat', number: 1 });
  t.match(await early.ended(), { code: 'invalid', message: /not a hello/ });

  const twice = satellite();
  await twice.hello();
  twice.send({ kind: 'hello', host: 'host', labels: {}, earlier: undefined });
  t.match(await twice.ended(), { code: 'invalid', message: /second hello/ });

  const liar = satellite();
  await liar.hello();
  liar.acknowledge(17);
  t.match(await liar.ended(), { code: 'invalid', message: /never sent/ });

  const nameless = satellite();
  nameless.open();
  nameless.send({ kind: 'hello', host: '', labels: {}, earlier: undefined });
  t.match(await nameless.ended(), { code: 'invalid', message: /name of a host/ });

  const newer = satellite();
  const error = await new Promise((resolve) => {
    const stream = newer.client.openLeaseStream({
      opened: () => undefined,
      message: () => undefined,
      broken: resolve,
    });
    const value = { protocolVersion: PROTOCOL_VERSION + 1, exportName: 'data', host: 'host' };
    stream.send({ message: { case: 'hello', value } });
  });
  t.match(error, { code: 'unsupported', hint: /same release/ });

  const stranger = satellite();
  const elsewhere = await new Promise((resolve) => {
    const stream = stranger.client.openLeaseStream({
      opened: () => undefined,
      message: () => undefined,
      broken: resolve,
    });
    const value = { protocolVersion: PROTOCOL_VERSION, exportName: 'nothing', host: 'host' };
    stream.send({ message: { case: 'hello', value } });
  });
  t.match(elsewhere, { code: 'not-found' });
});

t.test('one who never acknowledges is gone after a term, and the change is done', async (t) => {
  const { satellite } = await start(t, undefined, filled(), 1_000);
  const [silent, other] = [satellite(), satellite()];
  await silent.hello();
  await silent.lookup('a.txt');
  await remove(other, 'a.txt');
  t.match(await silent.ended(), { code: 'unavailable', message: /owed an acknowledgement/ });
  t.match(await other.client.listSessions({ exportName: '' }), { sessions: [] });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}
