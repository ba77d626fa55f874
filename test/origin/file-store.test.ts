/** An origin over a real directory, and over a directory of 100,000 entries. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { openOriginNamespace } from '../../lib/namespace/origin-namespace.ts';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { formatPosixMetadata } from '../../lib/store/posix-metadata.ts';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { logger, originOptions, readAll, startFixture, temporaryDirectory, walk } from './origin-fixture.ts';

t.test('origin serves a directory of this host', async (t) => {
  const top = await temporaryDirectory(t);
  const objects = path.join(top, 'objects');
  await fs.mkdir(objects);
  const url = pathToFileURL(objects).href;
  const store = openStore(url);
  const keys = ['a', 'a-b', 'd/é', 'd/e/f', 'weird//key', 'both', 'both/below', '../up', 'n'.repeat(300)];
  for (const key of keys) await store.put(key, Buffer.from(key));
  const link = formatPosixMetadata({ kind: 'symlink', symlinkTarget: 'a' });
  await store.put('link', new Uint8Array(), { metadata: link });
  await store.close();
  const origin = await startOrigin(
    originOptions({ dataDirectory: path.join(top, 'data'), exports: [{ name: 'data', url }], openStore }),
  );
  t.teardown(() => origin.close());
  const { namespace } = await openOriginNamespace({
    address: origin.address,
    exportName: 'data',
    host: 'test',
    clock: systemClock,
    logger,
  });
  t.teardown(() => namespace.close());
  const root = await walk(namespace, '');
  const entries = root === undefined ? [] : await readAll(namespace, root, 2);
  t.match(
    entries.map(({ name, attributes }) => [name, attributes.kind]),
    [
      ['a', 'file'],
      ['a-b', 'file'],
      ['both', 'directory'],
      ['d', 'directory'],
      ['link', 'symlink'],
      ['weird', 'directory'],
    ],
  );
  t.match(await walk(namespace, 'd/é'), { kind: 'file', sizeBytes: 4 });
  t.equal(await walk(namespace, 'weird/key'), undefined);

  const client = createOriginClient({ address: origin.address, clock: systemClock, deadlineMs: 10_000 });
  t.teardown(() => client.close());
  const hidden: string[] = [];
  for await (const { key } of client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 0 }))
    hidden.push(key);
  t.same(hidden.sort(), ['../up', 'both', 'n'.repeat(300), 'weird//key'].sort());
  await t.rejects(client.inspectKeys({ exportName: 'other', prefix: '', keysMax: 1 }).next(), {
    code: 'not-found',
    hint: /data/,
  });
});

t.test(
  'directory of 100,000 entries is listed whole and in order, while it is still being listed',
  async (t) => {
    const { store, namespace } = await startFixture(t);
    const names = Array.from({ length: 100_000 }, (_, at) => `image-${String(at).padStart(6, '0')}.jpg`);
    store.fill(names.map((name) => `big/${name}`));
    const directory = await walk(namespace, 'big');
    if (directory === undefined) throw new Error('it is there');
    const first = await namespace.list(directory.inode, { entriesMax: 1_000 });
    t.equal(first.entries.length, 1_000);
    t.ok(store.calls.list < 20, 'the first page waits for few of the store');
    const entries = await readAll(namespace, directory);
    t.same(
      entries.map(({ name }) => name),
      names,
    );
    const { list } = store.calls;
    const second = await readAll(namespace, directory);
    t.equal(second.length, names.length);
    t.equal(store.calls.list, list, 'the second time the store is not asked');
  },
);
