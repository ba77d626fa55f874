/** Files that satellites write, over real connections of a real origin. */
import t, { type Test } from 'tap';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { TestSatellite } from './lease-fixture.ts';
import { MemoryStore } from './memory-store.ts';
import { originOptions, temporaryDirectory } from './origin-fixture.ts';
import { WritingSatellite } from './writing-satellite.ts';

const URL = 'memory://bucket?exclusive=true';

async function start(
  t: Test,
  options: {
    readonly store?: MemoryStore;
    readonly directory?: string;
    readonly url?: string;
    readonly termMs?: number;
    readonly writeWaitMs?: number;
  } = {},
) {
  const store = options.store ?? filled();
  const directory = options.directory ?? (await temporaryDirectory(t));
  const timing = { termMs: options.termMs ?? 20_000, heartbeatMs: 500, clockRateError: 0.01 };
  const origin = await startOrigin(
    originOptions({
      dataDirectory: directory,
      exports: [{ name: 'data', url: options.url ?? URL }],
      openStore: () => store,
      leases: { timing, quietMs: 10_000 },
      writeWaitMs: options.writeWaitMs ?? 50,
    }),
  );
  let ended: Promise<void> | undefined;
  const end = (): Promise<void> => (ended ??= origin.close());
  t.teardown(end);
  const satellite = async (host: string): Promise<WritingSatellite> => {
    const one = new WritingSatellite(t, origin.address);
    await one.hello(host);
    return one;
  };
  return { store, directory, end, satellite, address: origin.address };
}

function filled(): MemoryStore {
  const store = new MemoryStore();
  store.fill({ a: 'one', b: 'two', 'dir/c': 'three' });
  return store;
}

t.test('a file that is made is nobody else’s before its first commit, which shows it whole', async (t) => {
  const { store, satellite } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  const { write, inode } = await one.create('new', { mode: 0o640, uid: 7, gid: 8 });
  t.match(inode, { kind: 'file', mode: 0o640, uid: 7, gid: 8, sizeBytes: 0n });
  t.equal(inode.version, undefined);
  t.equal(await other.see('new'), undefined);
  t.notOk(store.keys.includes('new'));
  await t.rejects(other.create('new'), { code: 'exists' }, 'of two who make a name one wins');
  await t.rejects(one.create('new'), { code: 'exists' });
  await t.rejects(one.create('a'), { code: 'exists' });

  const committed = await one.commit(write, 'text', { mode: 0o600, modifiedNs: 123_456_789_000n });
  t.match(committed, {
    inode: inode.inode,
    mode: 0o600,
    uid: 7,
    modifiedNs: 123_456_789_000n,
    sizeBytes: 4n,
  });
  t.equal(store.text('new'), 'text');
  t.strictSame((await other.see('new'))?.version, committed.version);
  t.equal((await other.openFile(inode.inode)).write.token, write.token + 1n, 'the write has ended');
});

t.test('one satellite at a time makes the next version of a file', async (t) => {
  const { satellite } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  const { write } = await one.openFile((await one.see('a'))?.inode ?? 0n);
  t.strictSame((await one.openFile(write.inode)).write, write, 'its own goes on');
  await t.rejects(other.openFile(write.inode), { code: 'busy', message: /one is writing/ });
  await one.commit(write, 'first', { last: false });
  await t.rejects(other.openFile(write.inode), { code: 'busy' });
  const waiting = (await start(t, { writeWaitMs: 60_000 })).satellite;
  const [third, fourth] = [await waiting('third'), await waiting('fourth')];
  const held = await third.openFile((await third.see('a'))?.inode ?? 0n);
  const patient = fourth.openFile(held.write.inode);
  await third.client.endWrite({ exportName: 'data', session: third.session, write: held.write });
  t.equal((await patient).write.token, held.write.token + 1n, 'who waits gets it when it ends');
});

t.test('a write outlives its session, until another satellite wants the file', async (t) => {
  const { satellite, store } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  const { write } = await one.openFile((await one.see('a'))?.inode ?? 0n);
  const pending = await one.create('pending');
  await one.goodbye();
  const again = await satellite('one');
  t.strictSame(await again.reclaim([write, pending.write, { ...write, token: 77n }]), [
    write.write,
    pending.write.write,
  ]);
  await t.rejects(other.openFile(write.inode), { code: 'busy' });
  await again.goodbye();
  await other.openFile(write.inode);
  await t.rejects(again.commit(write, 'stale'), { code: 'fenced' });
  t.equal(store.text('a'), 'one');
  await again.commit(pending.write, 'nobody wanted it');
  t.equal(store.text('pending'), 'nobody wanted it');
  t.strictSame(await again.reclaim([write]), []);
});

t.test('the same commit again has the same result, in another life of the origin too', async (t) => {
  const first = await start(t);
  const one = await first.satellite('one');
  const { write } = await one.create('new');
  const committed = await one.commit(write, 'text', { operation: 'op' });
  t.strictSame(await one.commit(write, 'text', { operation: 'op' }), committed);
  await first.end();
  const second = await start(t, { store: first.store, directory: first.directory });
  const other = await second.satellite('one');
  t.strictSame((await other.commit(write, 'text', { operation: 'op' })).version, committed.version);
  await t.rejects(other.commit(write, 'more'), { code: 'fenced' });
});

t.test('parts are completed by the commit, with the attributes that it names', async (t) => {
  const { satellite, store } = await start(t);
  const one = await satellite('one');
  const { write } = await one.create('big');
  const begun = await one.begin(write);
  t.match(begun, { objectKey: 'big', storeUrl: 'memory://bucket' });
  const part = await one.part(store, begun, 'bytes');
  const extended = { 'user.a': Buffer.from([0, 255]), 'user.ü': Buffer.alloc(3_000, 7) };
  const inode = await one.commitParts(write, begun, [part], { mode: 0o755, extended });
  t.match(inode, { sizeBytes: 5n, mode: 0o755 });
  t.strictSame(Buffer.from(inode.extended['user.a'] ?? []), Buffer.from([0, 255]));
  t.equal(store.text('big'), 'bytes');
  t.equal(store.uploads, 0);
  await t.rejects(one.commitParts(write, begun, [part]), { code: 'fenced' });
  const next = await one.openFile(inode.inode);
  await t.rejects(one.commitParts(next.write, begun, [part]), { code: 'upload-gone' });
  const unused = await one.begin(next.write);
  t.equal(store.uploads, 1);
  await one.client.endWrite({ exportName: 'data', session: one.session, write: next.write });
  t.equal(store.uploads, 0, `${unused.storeUpload} is forgotten`);
});

t.test('pending names are renamed and removed for their satellite alone', async (t) => {
  const { satellite, store } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  const { write, inode } = await one.create('tmp');
  t.match(await one.rename('tmp', 'a'), { inode: (await other.see('a'))?.inode });
  t.equal((await other.see('a'))?.sizeBytes, 3n, 'elsewhere the target is what it was');
  t.equal((await one.create('tmp')).inode.sizeBytes, 0n, 'the old name is free');
  await one.commit(write, 'renamed');
  t.match(await other.see('a'), { inode: inode.inode, sizeBytes: 7n });
  t.equal(store.text('a'), 'renamed');

  const gone = await one.create('gone');
  await t.rejects(other.remove('gone'), { code: 'not-found' });
  t.equal((await one.remove('gone')).inode, gone.inode.inode);
  await t.rejects(one.commit(gone.write, 'late'), { code: 'not-found' });
  t.notOk(store.keys.includes('gone'));

  await t.rejects(one.rename('tmp', 'b', 'keep'), { code: 'exists' });
  const over = await one.create('over');
  await one.rename('over', 'b');
  await one.remove('b');
  t.equal(await other.see('b'), undefined, 'with what it stood over');
  await t.rejects(one.commit(over.write, 'late'), { code: 'not-found' });
});

t.test('a directory with files that are being made is not empty', async (t) => {
  const { satellite } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  const { inode } = await one.make('d');
  const { write } = await one.create('x', {}, inode);
  await t.rejects(other.remove('d', true), { code: 'not-empty' });
  await t.rejects(other.rename('dir', 'd'), { code: 'not-empty' });
  await one.rename('d', 'e');
  await one.commit(write, 'inside');
  t.match(await other.see('x', inode), { sizeBytes: 6n });
  const late = await one.create('late', {}, inode);
  await one.client.remove({ exportName: 'data', path: 'e', recursive: true });
  await t.rejects(one.commit(late.write, 'late'), { code: 'not-found' });
});

t.test('a file is unlinked or renamed while it is written: the commit follows the inode', async (t) => {
  const { satellite, store } = await start(t);
  const one = await satellite('one');
  const { write } = await one.openFile((await one.see('a'))?.inode ?? 0n);
  const begun = await one.begin(write);
  const part = await one.part(store, begun, 'moved');
  await one.rename('a', 'z');
  t.match(await one.commitParts(write, begun, [part], { last: false }), {
    inode: write.inode,
    sizeBytes: 5n,
  });
  t.equal(await one.see('a'), undefined);
  t.match(await one.see('z'), { inode: write.inode, sizeBytes: 5n });
  await one.remove('z');
  await t.rejects(one.commit(write, 'late'), { code: 'not-found' });
});

t.test('an upload whose key another file has got since is to be sent anew', async (t) => {
  const { satellite, store } = await start(t);
  const one = await satellite('one');
  const { write } = await one.create('tmp');
  const begun = await one.begin(write);
  const part = await one.part(store, begun, 'old');
  await one.rename('tmp', 'final');
  const second = await one.create('tmp');
  await one.commit(second.write, 'second');
  await t.rejects(one.commitParts(write, begun, [part]), { code: 'upload-gone' });
  t.equal(store.text('tmp'), 'second');
  await one.commit(write, 'sent anew');
  t.equal(store.text('final'), 'sent anew');
  t.equal(store.uploads, 0);
});

t.test('two names are exchanged at one instant', async (t) => {
  const { satellite, store } = await start(t);
  const one = await satellite('one');
  const [a, b] = [(await one.see('a'))?.inode, (await one.see('dir'))?.inode];
  await one.rename('a', 'dir', 'exchange');
  t.match(await one.see('a'), { inode: b, kind: 'directory' });
  t.match(await one.see('dir'), { inode: a, kind: 'file' });
  await one.rename('a', 'dir', 'exchange');
  t.equal((await one.see('c', b))?.sizeBytes, 5n);
  await until(() => store.keys.join() === 'a,b,dir/c');
  await t.rejects(one.rename('a', 'nothing', 'exchange'), { code: 'not-found' });
  const inner = await one.make('in', b);
  t.ok(inner.inode);
  await t.rejects(one.rename('dir', 'in', 'exchange', { to: b }), { code: 'invalid' });
});

t.test('attributes are set in the index, and stay when the store is asked again', async (t) => {
  const { satellite, store } = await start(t, { url: 'memory://bucket?revalidate=1s' });
  const one = await satellite('one');
  const { inode } = (await one.see('a')) ?? { inode: 0n };
  const set = await one.setAttributes(inode, {
    mode: 0o444,
    uid: 3,
    extended: { 'user.k': Buffer.from('v') },
  });
  t.match(set, { mode: 0o444, uid: 3, sizeBytes: 3n });
  await one.client.refresh({ exportName: 'data', path: '', recursive: true }).next();
  const now = await one.see('a');
  t.match(now, { mode: 0o444, uid: 3 });
  t.equal(Buffer.from(now?.extended['user.k'] ?? []).toString(), 'v');
  const taken = await one.setAttributes(inode, { extendedRemoved: ['user.k'] });
  t.strictSame(taken.extended, {});
  await t.rejects(one.setAttributes(inode, { extended: { 'trusted.k': Buffer.from('v') } }), {
    code: 'invalid',
  });
  const large = { 'user.large': Buffer.alloc(70_000) };
  await t.rejects(one.setAttributes(inode, { extended: large }), { code: 'no-space' });
  store.fill({ a: 'put by somebody' });
  for await (const figures of one.client.refresh({ exportName: 'data', path: '', recursive: true }))
    void figures;
  t.match(await one.see('a'), { mode: 0o644, uid: 0, sizeBytes: 15n });
});

t.test('the writer is told of its change and not asked, others are asked once', async (t) => {
  const { satellite } = await start(t);
  const [one, other] = [await satellite('one'), await satellite('other')];
  await one.list();
  await other.list();
  const { write } = await one.create('new');
  t.same([...one.unread, ...other.unread], [], 'a reservation changes nothing');
  const committing = one.commitAnswered(write, 'text');
  const withdraw = await other.next('withdraw');
  t.match(withdraw.names, [{ name: 'new' }, { directory: 1n, name: '', attributesOnly: true }]);
  other.acknowledge(withdraw.sequence);
  const { sequence } = await committing;
  const update = await one.next('update');
  t.equal(BigInt(update.sequence), sequence, 'what came before tells of the time before');
  t.match(update.names, [{ name: { name: 'new' } }, { name: { name: '' } }]);
  t.match(await other.next('update'), { names: [{ name: { name: 'new' } }, { name: { name: '' } }] });
  t.same([...one.unread, ...other.unread], []);
});

t.test('changes in one directory do not wait for each other, nor do lookups of it', async (t) => {
  const { satellite, store } = await start(t);
  const one = await satellite('one');
  const { inode } = await one.make('d');
  const [slow, fast] = [await one.create('slow', {}, inode), await one.create('fast', {}, inode)];
  const gate = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  store.onWrite = (_, key, done) => {
    if (key !== 'd/slow' || done) return undefined;
    reached.resolve();
    return gate.promise;
  };
  const stuck = one.commit(slow.write, 'slow');
  await reached.promise;
  await one.commit(fast.write, 'fast');
  const { inode: directory, grant } = await one.lookup('d');
  t.equal(directory?.inode, inode);
  t.equal(grant, undefined, 'its times are about to move: the answer is used once');
  gate.resolve();
  await stuck;
  t.ok((await one.lookup('d')).grant);
});

t.test('a session is believed to its owner only, and a read-only export takes no changes', async (t) => {
  const { satellite, address } = await start(t);
  const one = await satellite('one');
  await one.list();
  const stranger = new TestSatellite(t, address);
  const { write } = await stranger.client
    .openWrite({
      exportName: 'data',
      session: 'made up',
      operation: 'x',
      place: { parent: 1n, name: 'n' },
      create: {},
    })
    .then(({ write }) => ({ write: write ?? { write: '', token: 0n, inode: 0n } }));
  const place = { parent: 1n, name: 'n' };
  await t.rejects(one.client.openWrite({ exportName: 'data', session: one.session, inode: write.inode }), {
    code: 'not-found',
  });
  t.ok((await one.create('n')).write.token > write.token, 'a write of nobody is anybody’s');
  const closed = await start(t, { url: `${URL}&readOnly=true` });
  const reader = await closed.satellite('reader');
  await t.rejects(
    reader.client.openWrite({ exportName: 'data', session: reader.session, place, create: {} }),
    { code: 'read-only' },
  );
  await t.rejects(reader.client.remove({ exportName: 'data', path: 'a', recursive: false }), {
    code: 'read-only',
  });
});

/** Waits, without sleeping, until a condition holds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
