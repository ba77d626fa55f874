/** One suite for every object store: what `lib/store/object-store.ts` promises, and where S3 leaves a choice, the one that was made. */
import { type Readable } from 'node:stream';
import { type Test } from 'tap';
import { compareKeys } from '../../lib/store/key-order.ts';
import { type ListRequest, type ObjectStore, StoreError } from '../../lib/store/object-store.ts';

export interface ContractSubject {
  readonly name: string;
  /** A store with nothing in it; the suite closes it. */
  readonly open: (test: Test) => Promise<ObjectStore>;
  readonly capabilities: {
    /** Puts under a condition are refused as `unsupported` where false. */
    readonly conditionalPut: boolean;
    /** Keys that the server itself refuses or mangles. */
    readonly refusedKeys?: readonly string[];
    /** Bytes above which `open`'s store copies in parts. */
    readonly copyWholeBytesMax: number;
  };
}

const MIB = 1024 * 1024;

export function storeContract(test: Test, subject: ContractSubject): void {
  const { name, open, capabilities } = subject;
  const scenario = (title: string, run: (t: Test, store: ObjectStore) => Promise<void>): void => {
    void test.test(`${name} ${title}`, async (t) => {
      const store = await open(t);
      t.teardown(() => store.close());
      await run(t, store);
    });
  };

  scenario('gives back what was put', async (t, store) => {
    for (const size of [0, 1, 10_000, 3 * MIB + 1]) {
      const bytes = pattern(size);
      const written = await store.put('dir/object', bytes);
      const head = await store.head('dir/object');
      t.match(head, { key: 'dir/object', sizeBytes: size, entityTag: written.entityTag });
      t.ok(Math.abs(head.modifiedMs - Date.now()) < 3_600_000, 'modified now');
      const got = await store.get({ key: 'dir/object' });
      t.equal(got.bodyBytes, size);
      t.equal(got.head.entityTag, written.entityTag);
      t.ok((await bytesOf(got.body)).equals(bytes), `${size} bytes`);
    }
  });

  scenario('yields exactly the range that was asked for', async (t, store) => {
    const bytes = pattern(100_000);
    const { entityTag } = await store.put('ranged', bytes);
    for (const [offset, length] of [
      [0, 1],
      [0, 100_000],
      [99_999, 1],
      [99_999, 500],
      [5_000, 70_000],
      [0, 2_000_000],
    ] as const) {
      const got = await store.get({ key: 'ranged', range: { offset, length }, ifMatch: entityTag });
      t.equal(got.head.sizeBytes, 100_000, 'the head tells of the whole object');
      const expected = bytes.subarray(offset, offset + length);
      t.equal(got.bodyBytes, expected.length);
      t.ok((await bytesOf(got.body)).equals(expected), `${length} from ${offset}`);
    }
    await fails(t, store.get({ key: 'ranged', range: { offset: 100_000, length: 1 } }), 'invalid-range');
    await fails(t, store.get({ key: 'ranged', range: { offset: 0, length: 0 } }), 'invalid-range');
    await fails(t, store.get({ key: 'ranged', range: { offset: -1, length: 5 } }), 'invalid-range');
    await store.put('empty', new Uint8Array());
    await fails(t, store.get({ key: 'empty', range: { offset: 0, length: 1 } }), 'invalid-range');
  });

  scenario('never yields a byte of another version to a conditional get', async (t, store) => {
    const first = await store.put('versioned', Buffer.from('first'));
    const second = await store.put('versioned', Buffer.from('secon'));
    t.not(first.entityTag, second.entityTag, 'two contents of one key never share a tag');
    await fails(t, store.get({ key: 'versioned', ifMatch: first.entityTag }), 'precondition-failed');
    const range = { offset: 1, length: 2 };
    await fails(t, store.get({ key: 'versioned', ifMatch: first.entityTag, range }), 'precondition-failed');
    const got = await store.get({ key: 'versioned', ifMatch: second.entityTag, range });
    t.equal((await bytesOf(got.body)).toString(), 'ec');
  });

  scenario('keeps metadata with the version that it was given to', async (t, store) => {
    const metadata = { mode: '33188', uid: '1000', mtime: '1700000000.123456789', 'symlink-target': 'a%20b' };
    await store.put('described', Buffer.from('x'), { metadata });
    t.strictSame((await store.head('described')).metadata, metadata);
    const got = await store.get({ key: 'described' });
    t.strictSame(got.head.metadata, metadata);
    await bytesOf(got.body);
    await store.put('described', Buffer.from('y'), { metadata: { other: 'Value' } });
    t.strictSame((await store.head('described')).metadata, { other: 'Value' });
    await store.put('described', Buffer.from('z'));
    t.notOk((await store.head('described')).metadata['other'], 'gone with its version');
    for (const bad of [
      { Upper: 'x' },
      { ünï: 'x' },
      { x: 'line\nbreak' },
      { x: 'é' },
      { x: 'y'.repeat(3000) },
    ]) {
      await fails(t, store.put('described', Buffer.from('z'), { metadata: bad }), 'invalid');
    }
  });

  scenario('lists in the order of UTF-8 bytes, in pages, by prefix and by directory', async (t, store) => {
    const keys = LISTED_KEYS.filter((key) => !capabilities.refusedKeys?.includes(key));
    await Promise.all(keys.map((key, index) => store.put(key, Buffer.alloc(index % 7))));
    const requests: ListRequest[] = [];
    for (const prefix of [
      '',
      'a',
      'a/',
      'a/b',
      'dir/',
      'dir/sub',
      'dir/sub/',
      'zz',
      '\u{1F600}',
      'a/b/c/d',
    ]) {
      requests.push({ prefix }, { prefix, delimiter: '/' });
      for (const startAfter of ['a', 'a/', 'a/b', 'a0', 'dir/', 'dir/sub/x', 'zzz']) {
        requests.push({ prefix, startAfter, keysMax: 4 }, { prefix, startAfter, delimiter: '/', keysMax: 4 });
      }
      requests.push({ prefix, keysMax: 1 }, { prefix, delimiter: '/', keysMax: 3 });
    }
    for (const request of requests) {
      const { objects, prefixes, pages } = await listAll(store, request);
      const expected = modelListing(keys, request);
      t.strictSame({ objects, prefixes }, expected, `${JSON.stringify(request)} in ${pages} pages`);
    }
    const page = await store.list({ prefix: 'a/', keysMax: 1 });
    const head = await store.head(page.objects[0]?.key ?? '');
    t.equal(page.objects[0]?.entityTag, head.entityTag, 'listing and head agree on the tag');
    t.equal(page.objects[0]?.sizeBytes, head.sizeBytes);
  });

  scenario('holds keys that cannot be file names, each as itself', async (t, store) => {
    const keys = STRANGE_KEYS.filter((key) => !capabilities.refusedKeys?.includes(key));
    for (const key of keys) await store.put(key, Buffer.from(key));
    for (const key of keys) {
      const got = await store.get({ key });
      t.equal((await bytesOf(got.body)).toString(), key, JSON.stringify(key.slice(0, 40)));
    }
    t.strictSame((await listAll(store, { prefix: '' })).objects, [...keys].sort(compareKeys));
    const [gone, ...kept] = keys;
    await store.delete(gone ?? '');
    t.strictSame((await listAll(store, { prefix: '' })).objects, [...kept].sort(compareKeys));
    for (const key of kept) await store.delete(key);
    t.strictSame(await store.list({ prefix: '' }), { objects: [], prefixes: [], nextToken: undefined });
  });

  scenario('refuses keys that no store can hold', async (t, store) => {
    for (const key of ['', 'x'.repeat(1025), '\ud800', `a/${'é'.repeat(512)}`]) {
      await fails(t, store.put(key, Buffer.from('x')), 'invalid-key');
      await fails(t, store.head(key), 'invalid-key');
      await fails(t, store.get({ key }), 'invalid-key');
    }
  });

  scenario('says not-found of what is not there', async (t, store) => {
    await store.put('here/below', Buffer.from('x'));
    for (const key of ['nothing', 'here', 'here/', 'here/below/deeper']) {
      await fails(t, store.head(key), 'not-found');
      await fails(t, store.get({ key }), 'not-found');
      await fails(t, store.copy({ from: key, to: 'copy' }), 'not-found');
    }
    t.strictSame((await listAll(store, { prefix: 'nothing/' })).objects, []);
  });

  scenario('puts only over the version or the absence that was asked for', async (t, store) => {
    if (!capabilities.conditionalPut) {
      await fails(t, store.put('conditional', Buffer.from('a'), { ifAbsent: true }), 'unsupported');
      return;
    }
    const first = await store.put('conditional', Buffer.from('a'), { ifAbsent: true });
    await fails(t, store.put('conditional', Buffer.from('b'), { ifAbsent: true }), 'precondition-failed');
    const second = await store.put('conditional', Buffer.from('b'), { ifMatch: first.entityTag });
    await fails(
      t,
      store.put('conditional', Buffer.from('c'), { ifMatch: first.entityTag }),
      'precondition-failed',
    );
    t.equal((await store.head('conditional')).entityTag, second.entityTag);
    const absent = store.put('absent', Buffer.from('c'), { ifMatch: first.entityTag });
    t.equal(await codeOf(absent), 'precondition-failed');
    const rivals = await Promise.allSettled(
      ['r1', 'r2', 'r3', 'r4'].map((body) => store.put('raced', Buffer.from(body), { ifAbsent: true })),
    );
    t.equal(rivals.filter(({ status }) => status === 'fulfilled').length, 1, 'one of four rivals wins');
  });

  scenario('deletes, and deletes again', async (t, store) => {
    await store.put('doomed/a', Buffer.from('x'));
    const { entityTag } = await store.put('doomed/b', Buffer.from('y'));
    await fails(t, store.delete('doomed/a', { ifMatch: entityTag }), 'precondition-failed');
    await store.delete('doomed/a');
    await store.delete('doomed/a');
    await fails(t, store.delete('doomed/a', { ifMatch: entityTag }), 'precondition-failed');
    await fails(t, store.head('doomed/a'), 'not-found');
    await store.delete('doomed/b', { ifMatch: entityTag });
    t.strictSame(
      (await listAll(store, { prefix: '', delimiter: '/' })).prefixes,
      [],
      'no directory stays behind',
    );
  });

  scenario('puts an object together from parts', async (t, store) => {
    const parts = [pattern(5 * MIB), pattern(5 * MIB + 3), pattern(17)];
    const metadata = { kind: 'checkpoint' };
    const uploadId = await store.createUpload('parted', { metadata });
    const uploaded = await Promise.all(
      parts.map((body, index) => store.uploadPart({ key: 'parted', uploadId, partNumber: index + 1 }, body)),
    );
    await fails(t, store.head('parted'), 'not-found');
    t.strictSame((await listAll(store, { prefix: '' })).objects, [], 'nothing to be seen of it before');
    const written = await store.completeUpload({ key: 'parted', uploadId, parts: uploaded });
    const head = await store.head('parted');
    t.match(head, { entityTag: written.entityTag, sizeBytes: 10 * MIB + 20, metadata });
    const got = await store.get({ key: 'parted', ifMatch: written.entityTag });
    t.ok((await bytesOf(got.body)).equals(Buffer.concat(parts)));
    const across = { offset: 5 * MIB - 2, length: 4 };
    const ranged = await store.get({ key: 'parted', ifMatch: written.entityTag, range: across });
    t.ok((await bytesOf(ranged.body)).equals(Buffer.concat(parts).subarray(5 * MIB - 2, 5 * MIB + 2)));

    const second = await store.createUpload('parted');
    const part = await store.uploadPart(
      { key: 'parted', uploadId: second, partNumber: 1 },
      Buffer.from('new'),
    );
    const complete = { key: 'parted', uploadId: second, parts: [part] };
    await fails(t, store.completeUpload(complete, { ifAbsent: true }), 'precondition-failed');
    const wrong = { ...complete, parts: [{ ...part, entityTag: '0'.repeat(32) }] };
    t.match(await codeOf(store.completeUpload(wrong)), /invalid|not-found/);
    await store.abortUpload({ key: 'parted', uploadId: second });
    t.match(await codeOf(store.completeUpload(complete)), /not-found|invalid/);
    t.equal((await store.head('parted')).entityTag, written.entityTag, 'untouched');
  });

  scenario('copies on its side, small and large', async (t, store) => {
    const bytes = pattern(capabilities.copyWholeBytesMax + 12_345);
    const source = await store.put('from/large', bytes, { metadata: { kept: 'yes' } });
    const copied = await store.copy({ from: 'from/large', to: 'to/large', ifMatch: source.entityTag });
    const got = await store.get({ key: 'to/large', ifMatch: copied.entityTag });
    t.strictSame(got.head.metadata, { kept: 'yes' });
    t.ok((await bytesOf(got.body)).equals(bytes));
    await store.put('from/small', Buffer.from('small'), { metadata: { kept: 'yes' } });
    await store.copy({ from: 'from/small', to: 'to/ some +%é' });
    t.strictSame((await store.head('to/ some +%é')).metadata, { kept: 'yes' });
    await store.copy({ from: 'to/ some +%é', to: 'to/other' }, { metadata: { new: '1' } });
    t.strictSame((await store.head('to/other')).metadata, { new: '1' });
    await fails(
      t,
      store.copy({ from: 'from/small', to: 'x', ifMatch: source.entityTag }),
      'precondition-failed',
    );
  });

  scenario('serves many calls at once', async (t, store) => {
    const keys = Array.from({ length: 60 }, (_, index) => `many/${index}`);
    await Promise.all(keys.map((key) => store.put(key, Buffer.from(key))));
    const texts = await Promise.all(
      keys.map(async (key) => (await bytesOf((await store.get({ key })).body)).toString()),
    );
    t.strictSame(texts, keys);
  });

  scenario('ends calls that are given up', async (t, store) => {
    await store.put('wanted', pattern(MIB));
    const reason = new Error('not wanted any more');
    const signal = AbortSignal.abort(reason);
    await t.rejects(store.get({ key: 'wanted' }, { signal }), reason);
    await t.rejects(store.put('wanted', Buffer.from('x'), { signal }), reason);
    const controller = new AbortController();
    const got = await store.get({ key: 'wanted' }, { signal: controller.signal });
    const read = bytesOf(got.body);
    controller.abort(reason);
    await t.rejects(read, reason, 'a body under way ends with the reason');
    await store.close();
    await fails(t, store.head('wanted'), 'unavailable');
  });
}

export async function bytesOf(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export async function fails(test: Test, call: Promise<unknown>, code: string): Promise<void> {
  test.equal(await codeOf(call), code);
}

export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'no error';
  } catch (error) {
    return error instanceof StoreError ? error.code : `no StoreError: ${String(error)}`;
  }
}

/** Bytes that differ everywhere, so that a shifted range shows. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + (i >>> 8) * 17 + (i >>> 16) * 7) & 0xff;
  return bytes;
}

async function listAll(
  store: ObjectStore,
  request: ListRequest,
): Promise<{ objects: string[]; prefixes: string[]; pages: number }> {
  const objects: string[] = [];
  const prefixes: string[] = [];
  let token: string | undefined;
  let pages = 0;
  do {
    const page = await store.list({ ...request, ...(token === undefined ? {} : { token }) });
    objects.push(...page.objects.map(({ key }) => key));
    prefixes.push(...page.prefixes);
    token = page.nextToken;
    pages++;
  } while (token !== undefined && pages < 1000);
  return { objects, prefixes, pages };
}

function modelListing(
  keys: readonly string[],
  request: ListRequest,
): { objects: string[]; prefixes: string[] } {
  const { prefix, delimiter, startAfter = '' } = request;
  const objects: string[] = [];
  const prefixes = new Set<string>();
  for (const key of [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    if (!key.startsWith(prefix)) continue;
    const end = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
    const item = end < 0 ? key : key.slice(0, end + 1);
    if (compareKeys(item, startAfter) <= 0) continue;
    if (end < 0) objects.push(key);
    else prefixes.add(item);
  }
  return { objects, prefixes: [...prefixes] };
}

const LISTED_KEYS = [
  'a-b',
  'a/b',
  'a/b/c/d',
  'a/b/c/e',
  'a0',
  'a',
  'a/c',
  'a/\u{1F600}',
  'a/\uffe6',
  'dir/',
  'dir/sub/x',
  'dir/sub/y',
  'dir/sub-z',
  'dir/sub0',
  'dir',
  '\u{1F600}/x',
  '\u{1F600}',
  '\uffe6',
  'zz/1',
  'zz/2',
  'zz',
  'Z',
  'é',
  'e\u0301',
  'with space',
  'plus+plus',
  'per%cent',
  'per%2Fcent',
];

const STRANGE_KEYS = [
  'a',
  'a/b',
  'a/b/c',
  'a//b',
  'a/',
  '/leading',
  'x/./y',
  'x/../y',
  '.',
  '..',
  '../../etc/passwd',
  '.perigee',
  '.perigee/temporary/x',
  'sub/.perigee/x',
  '.%x',
  '.%',
  '.%%',
  '%',
  '~',
  'tab\tnew\nline',
  'back\\slash',
  'question?hash#amp&',
  `long/${'n'.repeat(255)}`,
  `long/${'n'.repeat(256)}`,
  `long/${'n'.repeat(256)}/below`,
  `long/${'m'.repeat(900)}`,
  'trailing/slashes//',
];
