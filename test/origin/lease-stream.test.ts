/** Streams, grants and withdrawals over real connections of a real origin. */
import t, { type Test } from 'tap';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { TestSatellite } from './lease-fixture.ts';
import { MemoryStore } from './memory-store.ts';
import { originOptions, temporaryDirectory } from './origin-fixture.ts';

async function start(t: Test, dataDirectory?: string, store = filled()) {
  const directory = dataDirectory ?? (await temporaryDirectory(t));
  const timing = { termMs: 2_000, heartbeatMs: 500, clockRateError: 0.01 };
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
  const welcome = await holder.hello();
  t.match(welcome, { termMs: 2_000, heartbeatMs: 500, resumed: false });
  const { inode, grant } = await holder.lookup('a.txt');
  t.equal(inode?.sizeBytes, 3n);
  t.strictSame(grant, { sequence: 0, lease: { directory: 1n, subtree: true } });

  let done = false;
  const removing = remove(other, 'a.txt').then(() => (done = true));
  const { sequence, names } = await holder.next('withdraw');
  t.equal(sequence, 1);
  t.match(names, [{ directory: 1n, name: 'a.txt' }]);
  const { withdrawn } = await holder.list();
  t.strictSame(withdrawn, ['a.txt']);
  const asking = holder.lookup('a.txt');
  t.equal(done, false);
  holder.acknowledge(sequence);
  await removing;
  const update = await holder.next('update');
  t.match(update, { sequence: 2 });
  const asked = await asking;
  t.equal(asked.inode, undefined);
  t.ok((asked.grant?.sequence ?? 0) >= 2, 'granted after the change');
  t.match(await other.client.listSessions({ exportName: '' }), {
    sessions: [{ host: 'host', tenant: 'local', connected: true, acknowledgementsOwed: 0n }],
  });
});
