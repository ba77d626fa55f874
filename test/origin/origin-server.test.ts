/** How an origin starts, refuses to start, restarts and dies. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { UsageError } from '../../lib/base/errors.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { StoreError, type StoreErrorCode } from '../../lib/store/object-store.ts';
import { MemoryStore } from './memory-store.ts';
import { logger, originOptions, readAll, startFixture, temporaryDirectory, walk } from './origin-fixture.ts';

async function refusal(options: Parameters<typeof originOptions>[0]) {
  try {
    const origin = await startOrigin(originOptions(options));
    await origin.close();
    return { code: 'started' };
  } catch (error) {
    return error as { code: string; hint: string };
  }
}

t.test('origin refuses exports that make no sense', async (t) => {
  const dataDirectory = path.join(await temporaryDirectory(t), 'data');
  const ofExports = (...exports: [string, string][]) =>
    refusal({ dataDirectory, exports: exports.map(([name, url]) => ({ name, url })) });
  const url = 'memory://bucket';
  t.match(await ofExports(), { code: 'usage', hint: /--export/ });
  for (const name of ['', '.a', 'a/b', 'a b', 'é', 'x'.repeat(65), '-a']) {
    t.match(await ofExports([name, url]), { code: 'usage', hint: /letters/ }, `"${name}"`);
  }
  t.match(await ofExports(['a', url], ['a', url]), { code: 'usage', hint: /name of its own/ });
  t.match(await ofExports(['a', '/plain/path']), { code: 'usage', hint: /file:/ });
  t.match(await ofExports(['a', 's3://key:secret@bucket']), { code: 'usage', hint: /environment/ });
  for (const query of ['mode=999', 'mode=77777', 'uid=-1', 'gid=4294967295', 'attributes=all']) {
    t.match(await ofExports(['a', `${url}?${query}`]), { code: 'usage', hint: /write/ }, query);
  }
  await t.rejects(fs.stat(dataDirectory), 'nothing was made for a start that is refused');
  const openStore = (): never => {
    throw new UsageError('store URL: unknown scheme', { hint: 'use file:' });
  };
  t.match(await refusal({ dataDirectory, openStore }), { code: 'usage', hint: 'use file:' });
});

t.test('origin refuses data directories that are not its own', async (t) => {
  const top = await temporaryDirectory(t);
  await fs.writeFile(path.join(top, 'thesis.txt'), 'mine');
  t.match(await refusal({ dataDirectory: top }), { code: 'foreign', hint: /empty/ });
  t.same(await fs.readdir(top), ['thesis.txt'], 'left as it was');

  const file = path.join(top, 'file');
  await fs.writeFile(file, '');
  t.match(await refusal({ dataDirectory: file }), { code: 'index', hint: /directory/ });

  const garbage = path.join(top, 'garbage');
  await fs.mkdir(garbage);
  await fs.writeFile(path.join(garbage, 'index.sqlite'), 'x'.repeat(10_000));
  t.match(await refusal({ dataDirectory: garbage }), { code: 'foreign' });

  const other = path.join(top, 'other');
  await fs.mkdir(other);
  new Database(path.join(other, 'index.sqlite')).exec('create table songs (title text)').close();
  t.match(await refusal({ dataDirectory: other }), { code: 'foreign' });

  const newer = path.join(top, 'newer');
  t.match(await refusal({ dataDirectory: newer }), { code: 'started' });
  new Database(path.join(newer, 'index.sqlite')).exec('update meta set format = 99').close();
  t.match(await refusal({ dataDirectory: newer }), {
    code: 'format',
    message: /format 99/,
    hint: /release that wrote it/,
  });
});

t.test('origin refuses a data directory that another one has', async (t) => {
  const { dataDirectory } = await startFixture(t);
  t.match(await refusal({ dataDirectory }), { code: 'locked', hint: /stop the other origin/ });
});

t.test('origin refuses a port that is taken, and to listen beyond this host', async (t) => {
  const { address } = await startFixture(t);
  const dataDirectory = await temporaryDirectory(t);
  const listen = { host: '127.0.0.1', port: Number(address.split(':')[1]) };
  t.match(await refusal({ dataDirectory, listen }), { code: 'listen', hint: /another process/ });
  const open = { host: '0.0.0.0', port: 0 };
  t.match(await refusal({ dataDirectory, listen: open }), { code: 'usage', hint: /--insecure/ });
  t.match(await refusal({ dataDirectory, listen: open, insecure: true }), { code: 'started' });
});

t.test('store that refuses is an error at start, one that is away is not', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const store = new MemoryStore();
  let code: StoreErrorCode | undefined;
  store.before = () => {
    if (code !== undefined) throw new StoreError(code, 'says no', { hint: 'ask it' });
  };
  for (const refusing of ['access-denied', 'not-found', 'invalid'] as const) {
    code = refusing;
    const error = await refusal({ dataDirectory, openStore: () => store });
    t.match(error, { layer: 'origin', hint: 'ask it' }, refusing);
  }
  for (const away of ['unavailable', 'timeout', 'throttled'] as const) {
    code = away;
    t.match(await refusal({ dataDirectory, openStore: () => store }), { code: 'started' }, away);
  }
  const { namespace } = await startFixture(t, { store, dataDirectory });
  store.fill(['a']);
  const expected = { 'access-denied': 'denied', timeout: 'timeout', throttled: 'unavailable' } as const;
  for (const [failure, meant] of Object.entries(expected)) {
    code = failure as StoreErrorCode;
    await t.rejects(walk(namespace, 'a'), { code: meant, hint: 'ask it' }, failure);
  }
  code = undefined;
  t.equal((await walk(namespace, 'a'))?.kind, 'file', 'it came back');
});

t.test('restart keeps inode numbers and what was listed', async (t) => {
  const first = await startFixture(t, { url: 'memory://bucket?exclusive=true' });
  first.store.fill(['d/a', 'd/b', 'top']);
  const before = await Promise.all(['d', 'd/a', 'd/b', 'top'].map((name) => walk(first.namespace, name)));
  const directory = before[0];
  if (directory === undefined) throw new Error('d is there');
  const entries = await readAll(first.namespace, directory);
  const { list, head } = first.store.calls;
  const second = await first.restart();
  t.same(await readAll(second.namespace, directory), entries);
  t.same(await Promise.all(['d', 'd/a', 'd/b', 'top'].map((name) => walk(second.namespace, name))), before);
  t.match(second.store.calls, { list: list + 1, head }, 'only the start asked the store whether it is there');
  second.store.fill(['new']);
  const fresh = await walk(second.namespace, 'new');
  t.notOk(before.some((known) => known?.inode === fresh?.inode));
});

t.test('numbers of an index that was deleted are gone, not other files', async (t) => {
  const first = await startFixture(t);
  const names = Array.from({ length: 20 }, (_, at) => `f${at}`);
  first.store.fill(names);
  const before = await Promise.all(names.map((name) => walk(first.namespace, name)));
  await first.end();
  await fs.rm(first.dataDirectory, { recursive: true });
  const second = await startFixture(t, { store: first.store });
  const after = await Promise.all(names.map((name) => walk(second.namespace, name)));
  for (const [at, old] of before.entries()) {
    if (old === undefined) throw new Error('it was there');
    await t.rejects(second.namespace.attributes(old.inode), { code: 'not-found' });
    t.equal(after[at]?.source?.version, old.source?.version, 'but versions are the same');
  }
});

t.test('epoch grows with every start', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const epochs: number[] = [];
  const ids = new Set<string>();
  for (let start = 0; start < 3; start++) {
    const origin = await startOrigin(originOptions({ dataDirectory }));
    const { remote: namespace, exportInfo } = await openOriginNames({
      address: origin.address,
      exportName: 'data',
      host: 'test',
      clock: systemClock,
      logger,
    });
    epochs.push(exportInfo.epoch);
    ids.add(exportInfo.exportId);
    t.match(exportInfo, { readOnly: false, storeUrl: 'memory://bucket' });
    await namespace.close();
    await origin.close();
  }
  t.same(epochs, [1, 2, 3]);
  t.equal(ids.size, 1);
});

async function statusOf(address: string) {
  const client = createOriginClient({ address, clock: systemClock, deadlineMs: 10_000 });
  try {
    return await client.getOriginStatus({});
  } finally {
    client.close();
  }
}

t.test('export that lies elsewhere is refused, and its index stays whatever the refusal is', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const first = await startFixture(t, { dataDirectory });
  first.store.fill(['old/a', 'old/b']);
  const old = await walk(first.namespace, 'old');
  if (old) await readAll(first.namespace, old);
  const before = await statusOf(first.address);
  await first.end();

  const other = await startFixture(t);
  const taken = { host: '127.0.0.1', port: Number(other.address.split(':')[1]) };
  const elsewhere = [{ name: 'data', url: 'memory://elsewhere' }];
  t.match(await refusal({ dataDirectory, exports: elsewhere }), {
    code: 'usage',
    message: 'export "data" of this data directory lies at memory://bucket, not at memory://elsewhere',
    hint: /another name.*delete the data directory/,
  });
  t.match(await refusal({ dataDirectory, exports: elsewhere, listen: taken }), { code: 'usage' });
  t.match(await refusal({ dataDirectory, listen: taken }), { code: 'listen' });
  const both = [
    { name: 'data', url: 'memory://bucket' },
    { name: 'new', url: 'memory://elsewhere' },
  ];
  t.match(await refusal({ dataDirectory, exports: both }), { code: 'started' }, 'another name is fine');

  const again = await startFixture(t, { dataDirectory, store: first.store });
  t.same((await statusOf(again.address)).exports, before.exports);
  t.equal((await walk(again.namespace, 'old'))?.inode, old?.inode);
});

t.test('export of which nothing was found yet may lie elsewhere at the next start', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const mistaken = [{ name: 'data', url: 'memory://buckett' }];
  t.match(await refusal({ dataDirectory, exports: mistaken }), { code: 'started' });
  const second = await startFixture(t, { dataDirectory });
  second.store.fill(['new']);
  t.equal((await walk(second.namespace, 'new'))?.kind, 'file');
  t.match(await statusOf(second.address), {
    epoch: 2n,
    version: '0.0.0',
    exports: [{ name: 'data', storeUrl: 'memory://bucket', inodes: 2n }],
  });
});

t.test('killed origin starts again with every number it gave', async (t) => {
  const top = await temporaryDirectory(t);
  const objects = path.join(top, 'objects');
  await fs.mkdir(path.join(objects, 'd'), { recursive: true });
  for (let at = 0; at < 50; at++) await fs.writeFile(path.join(objects, 'd', `f${at}`), `${at}`);
  const start = async () => {
    const child = fork(path.join(import.meta.dirname, 'origin-process.ts'), [
      path.join(top, 'data'),
      objects,
    ]);
    t.teardown(() => child.kill('SIGKILL'));
    const [address] = (await once(child, 'message')) as [string];
    const { remote: namespace } = await openOriginNames({
      address,
      exportName: 'data',
      host: 'test',
      clock: systemClock,
      logger,
    });
    return { child, namespace };
  };
  const given = new Map<string, bigint>();
  for (let round = 0; round < 5; round++) {
    const { child, namespace } = await start();
    const exited = once(child, 'exit');
    const asking = Array.from({ length: 10 }, async (_, at) => {
      const name = `d/f${round * 10 + at}`;
      const found = await walk(namespace, name);
      if (found) given.set(name, found.inode);
      // In the midst of the others' lookups.
      if (at === 7) child.kill('SIGKILL');
    });
    await Promise.allSettled(asking);
    await exited;
    await namespace.close();
  }
  const { child, namespace } = await start();
  for (const [name, inode] of given) t.equal((await walk(namespace, name))?.inode, inode, name);
  t.equal(new Set(given.values()).size, given.size, 'no number stands for two files');
  const directory = await walk(namespace, 'd');
  t.equal(directory && (await readAll(namespace, directory)).length, 50);
  await namespace.close();
  child.kill('SIGKILL');
});
