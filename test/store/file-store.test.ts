/** What the file store promises beyond the contract: existing trees, links, crashes, writers that are not ours. */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  closeSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { type ObjectStore } from '../../lib/store/object-store.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { parsePosixMetadata } from '../../lib/store/posix-metadata.ts';
import { bytesOf, codeOf, fails, pattern } from './contract.ts';

function open(t: Test): { root: string; store: ObjectStore } {
  const root = t.testdir({});
  const store = openStore(`file://${root}`);
  t.teardown(() => store.close());
  return { root, store };
}

const keysOf = async (store: ObjectStore, prefix = ''): Promise<string[]> =>
  (await store.list({ prefix })).objects.map(({ key }) => key);

t.test('file store exports a directory tree that exists already, and writes nothing to it', async (t) => {
  const { root, store } = open(t);
  mkdirSync(join(root, 'sub/deep'), { recursive: true });
  mkdirSync(join(root, 'empty'));
  writeFileSync(join(root, 'sub/deep/file.bin'), 'content');
  writeFileSync(join(root, 'sub/100%.txt'), 'x');
  chmodSync(join(root, 'sub/deep/file.bin'), 0o640);
  utimesSync(join(root, 'sub/deep/file.bin'), 1700000000, 1700000000.5);
  t.strictSame(await keysOf(store), ['sub/100%.txt', 'sub/deep/file.bin']);
  t.strictSame((await store.list({ prefix: '', delimiter: '/' })).prefixes, ['empty/', 'sub/']);
  const head = await store.head('sub/deep/file.bin');
  t.strictSame(parsePosixMetadata(head.metadata), {
    kind: 'file',
    mode: 0o640,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
    modifiedNs: 1_700_000_000_500_000_000n,
  });
  t.equal((await bytesOf((await store.get({ key: 'sub/deep/file.bin' })).body)).toString(), 'content');
  t.notOk(existsSync(join(root, '.perigee')), 'reading leaves no trace');
});

t.test('file store shows symlinks as such and never follows one', async (t) => {
  const { root, store } = open(t);
  const outside = t.testdirName + '-outside';
  mkdirSync(outside);
  t.teardown(() => rmSync(outside, { recursive: true }));
  writeFileSync(join(outside, 'secret'), 'secret');
  symlinkSync(join(outside, 'secret'), join(root, 'link'));
  symlinkSync(outside, join(root, 'dir'));
  const head = await store.head('link');
  t.equal(head.sizeBytes, 0);
  t.match(parsePosixMetadata(head.metadata), { kind: 'symlink', symlinkTarget: join(outside, 'secret') });
  t.equal((await bytesOf((await store.get({ key: 'link' })).body)).length, 0);
  t.strictSame(await keysOf(store), ['dir', 'link']);
  await fails(t, store.get({ key: 'dir/secret' }), 'not-found');
  await fails(t, store.head('dir/secret'), 'not-found');
  t.strictSame(await keysOf(store, 'dir/'), []);
  await fails(t, store.put('dir/new', Buffer.from('x')), 'access-denied');
  await store.delete('dir/secret');
  t.strictSame(readdirSync(outside), ['secret'], 'nothing outside was touched');
  await store.put('link', Buffer.from('replaced'));
  t.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret');
});

t.test('file store never shows pipes, foreign names and its own directory', async (t) => {
  const { root, store } = open(t);
  spawnSync('sh', ['-c', 'mkfifo "$0"', join(root, 'pipe')]);
  writeFileSync(join(root, '.%not-canonical'), 'x');
  await store.put('a', Buffer.from('x'), { metadata: { k: 'v' } });
  const fd = openSync(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff, 0xfe])]), 'w');
  closeSync(fd);
  const page = await store.list({ prefix: '' });
  t.strictSame(
    page.objects.map(({ key }) => key),
    ['a'],
  );
  t.strictSame(page.undecodable, ['bad-\ufffd\ufffd'], 'a name that is no UTF-8 is reported');
  t.strictSame(await keysOf(store, '.perigee/'), []);
  await fails(t, store.get({ key: 'pipe' }), 'not-found');
  await fails(t, store.get({ key: '.perigee/metadata' }), 'not-found');
});

t.test('file store fails a read of a file that another program rewrites in place', async (t) => {
  // "A change made in the bucket behind our back is noticed at the next fetch or revalidation at the latest, and
  // readers then see either the old version whole, the new version whole, or an error; never a mix."
  const { root, store } = open(t);
  const { entityTag } = await store.put('log', pattern(4 * 1024 * 1024));
  const got = await store.get({ key: 'log', ifMatch: entityTag });
  const iterator = got.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  await iterator.next();
  appendFileSync(join(root, 'log'), 'more');
  const rest = async (): Promise<void> => {
    while (!(await iterator.next()).done);
  };
  await fails(t, rest(), 'precondition-failed');
  await fails(t, store.get({ key: 'log', ifMatch: entityTag }), 'precondition-failed');
  const truncated = await store.get({ key: 'log' });
  const second = truncated.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  await second.next();
  writeFileSync(join(root, 'log'), 'short');
  t.match(
    await codeOf(
      (async () => {
        while (!(await second.next()).done);
      })(),
    ),
    /corrupt|precondition-failed/,
  );
});

t.test(
  'file store serves an old version whole to who opened it before it was replaced or deleted',
  async (t) => {
    const { store } = open(t);
    const bytes = pattern(3 * 1024 * 1024);
    await store.put('object', bytes);
    const before = await store.get({ key: 'object' });
    await store.put('object', Buffer.from('new'));
    await store.delete('object');
    t.ok((await bytesOf(before.body)).equals(bytes));
  },
);

t.test(
  'file store moves an object aside for a directory of its name, with its tag and metadata',
  async (t) => {
    const { root, store } = open(t);
    const metadata = { k: 'v' };
    const { entityTag } = await store.put('a', Buffer.from('object'), { metadata });
    await store.put('a/b', Buffer.from('below'));
    t.ok(statSync(join(root, 'a')).isDirectory());
    t.match(await store.head('a'), { entityTag, metadata });
    await fails(t, store.put('a', Buffer.from('x'), { ifAbsent: true }), 'precondition-failed');
    const replaced = await store.put('a', Buffer.from('object 2'), { ifMatch: entityTag });
    t.strictSame(await keysOf(store), ['a', 'a/b']);
    await store.delete('a/b');
    t.equal((await store.head('a')).entityTag, replaced.entityTag, 'also when the directory is gone');
    await store.put('a', Buffer.from('object 3'));
    t.strictSame(await keysOf(store), ['a']);
    await store.delete('a');
    t.strictSame(await keysOf(store), []);
  },
);

t.test('file store survives a crash at any step of a put', async (t) => {
  const { root, store } = open(t);
  const { entityTag } = await store.put('object', Buffer.from('old'), { metadata: { k: 'old' } });
  // What a put leaves that died before its rename: a temporary file, and the sidecar of a version that never was.
  writeFileSync(join(root, '.perigee/temporary/dead'), 'half a new ver');
  const sidecars = join(root, '.perigee/metadata', readdirSync(join(root, '.perigee/metadata'))[0] ?? '');
  const [sidecar = ''] = readdirSync(sidecars);
  linkSync(join(sidecars, sidecar), join(sidecars, sidecar.replace(/-[^-]+$/, '-ffff')));
  const again = openStore(`file://${root}`);
  t.teardown(() => again.close());
  t.match(await again.head('object'), { entityTag, metadata: { k: 'old' } });
  t.strictSame(await keysOf(again), ['object']);
  await again.put('object', Buffer.from('new'));
  t.equal((await bytesOf((await again.get({ key: 'object' })).body)).toString(), 'new');
  utimesSync(join(root, '.perigee/temporary/dead'), 1, 1);
  const later = openStore(`file://${root}`);
  t.teardown(() => later.close());
  await later.put('other', Buffer.from('x'));
  t.strictSame(readdirSync(join(root, '.perigee/temporary')), [], 'what is left is removed in time');
});

t.test('file store ignores a sidecar of another version', async (t) => {
  const { root, store } = open(t);
  await store.put('object', Buffer.from('ours'), { metadata: { k: 'v' } });
  writeFileSync(join(root, 'object'), 'theirs!');
  t.notOk((await store.head('object')).metadata['k']);
});

t.test('file store lists a directory of 4,000 files in pages', async (t) => {
  const { root, store } = open(t);
  mkdirSync(join(root, 'huge'));
  const names = Array.from({ length: 4000 }, (_, index) => `f${(index * 7919) % 4000}`);
  for (const name of names) writeFileSync(join(root, 'huge', name), '');
  const listed: string[] = [];
  let token: string | undefined;
  do {
    const page = await store.list({
      prefix: 'huge/',
      delimiter: '/',
      ...(token === undefined ? {} : { token }),
    });
    listed.push(...page.objects.map(({ key }) => key.slice(5)));
    token = page.nextToken;
    if (listed.length === 2000) writeFileSync(join(root, 'huge', 'g-new'), '');
  } while (token !== undefined);
  const expected = [...names, 'g-new'].sort();
  t.ok(isDeepStrictEqual(listed, expected), 'complete, in order, with what was added meanwhile');
});

t.test('file store serves many writers of one key', async (t) => {
  const { store } = open(t);
  const bodies = Array.from({ length: 20 }, (_, index) => Buffer.alloc(1000 + index, index));
  const written = await Promise.all(bodies.map((body) => store.put('contended', body)));
  t.equal(new Set(written.map(({ entityTag }) => entityTag)).size, 20);
  const got = await store.get({ key: 'contended' });
  const bytes = await bytesOf(got.body);
  const winner = written.findIndex(({ entityTag }) => entityTag === got.head.entityTag);
  t.ok(bodies[winner]?.equals(bytes));
});

t.test('file store makes and prunes directories under concurrent writers', async (t) => {
  const { root, store } = open(t);
  const keys = ['x', 'x/y', 'x/y/z', 'x/w'];
  const rounds = Array.from({ length: 15 }, (_, round) => round);
  await Promise.all(
    keys.flatMap((key) =>
      rounds.map(async (round) => {
        await store.put(key, Buffer.from(`${key} ${round}`));
        if (round % 2 === 0) await store.delete(key);
      }),
    ),
  );
  await Promise.all(keys.map((key) => store.put(key, Buffer.from(key))));
  t.strictSame(await keysOf(store), ['x', 'x/w', 'x/y', 'x/y/z']);
  await Promise.all(keys.map((key) => store.delete(key)));
  t.strictSame(readdirSync(root), ['.perigee']);
});
