/** An origin over a real directory, and over a directory of 100,000 entries. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import type { Finding } from '../../lib/cli/runtime.ts';
import { doctor } from '../../lib/daemon/doctor.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
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
  const { remote: namespace } = await openOriginNames({
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
  let seen = 0;
  for await (const found of client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 0 })) {
    if (found.finding !== '') hidden.push(found.key);
    seen = found.keysSeen;
  }
  t.equal(seen, keys.length + 1);
  t.same(hidden.sort(), ['../up', 'both', 'n'.repeat(300), 'weird//key'].sort());
  await t.rejects(client.inspectKeys({ exportName: 'other', prefix: '', keysMax: 1 }).next(), {
    code: 'not-found',
    hint: /data/,
  });
});

t.test('names that are not UTF-8 are found once each, and the keys that were seen are counted', async (t) => {
  const top = await temporaryDirectory(t);
  const objects = path.join(top, 'objects');
  await fs.mkdir(path.join(objects, 'd'), { recursive: true });
  // More than one page of the store, so that both directories are met again.
  for (let at = 0; at < 1_100; at++) await fs.writeFile(path.join(objects, 'd', `f${at}`), '');
  const bad = Buffer.from([0x62, 0xff]);
  for (const directory of ['', 'd/']) {
    await fs.writeFile(Buffer.concat([Buffer.from(`${objects}/${directory}`), bad]), 'x');
  }
  const url = pathToFileURL(objects).href;
  const origin = await startOrigin(
    originOptions({ dataDirectory: path.join(top, 'data'), exports: [{ name: 'data', url }], openStore }),
  );
  t.teardown(() => origin.close());
  const findings: Finding[] = [];
  const options = { cacheDirectory: undefined, storeUrl: undefined, keysMax: 10_000 };
  for await (const finding of doctor({ ...options, origin: origin.address, exportName: 'data' })) {
    if (finding.subject === 'keys') findings.push(finding);
  }
  t.match(findings, [
    { level: 'warning', text: /^"b\ufffd": is not valid UTF-8/, hint: /rename/ },
    { level: 'warning', text: /^"d\/b\ufffd": is not valid UTF-8/ },
    { level: 'note', text: '1,102 keys seen; 2 findings' },
  ]);
  t.equal(findings.length, 3);
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
