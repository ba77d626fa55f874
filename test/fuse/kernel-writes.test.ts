/** The write side of a session, over a channel without a kernel: what is given back, kept, refused, waited for. */
import t, { type Test } from 'tap';
import { Errno } from '../../lib/fuse/errno.ts';
import { Opcode } from '../../lib/fuse/opcodes.ts';
import { LOCK_TO_END } from '../../lib/fuse/write-operations.ts';
import { conformanceTree } from '../conformance/tree.ts';
import { FakeKernel, name, readBody, type Reply, words } from './fake-kernel.ts';
import { MemoryFs } from './memory-fs.ts';

const small = conformanceTree.filter(({ path }) => !path.startsWith('many'));
const O_RDONLY = 0;
const O_RDWR = 2;
const [READ, WRITE, NONE] = [0, 1, 2];

class WritableKernel extends FakeKernel {
  readonly fs: MemoryFs;

  constructor(fs: MemoryFs) {
    super(fs, { writes: fs.writes, locks: fs.locks });
    this.fs = fs;
  }

  async openWith(node: bigint, flags = O_RDWR): Promise<bigint> {
    const { body } = await this.ask({ opcode: Opcode.OPEN, node, body: words(flags, 0) });
    return body.readBigUInt64LE(0);
  }

  lockBody(handle: bigint, owner: bigint, lock: { kind: number; flock?: boolean }): Buffer {
    return words(handle, owner, 0n, LOCK_TO_END, lock.kind, 77, lock.flock === true ? 1 : 0, 0);
  }
}

async function connected(t: Test): Promise<WritableKernel> {
  const fs = new MemoryFs(small, { writable: true });
  t.teardown(() => fs.dispose());
  const kernel = new WritableKernel(fs);
  await kernel.init();
  return kernel;
}

const settle = (): Promise<void> => new Promise(setImmediate);
const writeBody = (handle: bigint, offset: bigint, bytes: Buffer): Buffer =>
  Buffer.concat([words(handle, offset, bytes.length, 0, 0n, 0, 0), bytes]);
const createBody = (text: string): Buffer => Buffer.concat([words(O_RDWR | 0o100, 0o644, 0, 0), name(text)]);

t.test('session gives back entries and handles of changes whose reply was not taken', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const changes: Readonly<Record<string, { opcode: number; body: Buffer }>> = {
    create: { opcode: Opcode.CREATE, body: createBody('a') },
    mkdir: { opcode: Opcode.MKDIR, body: Buffer.concat([words(0o755, 0), name('b')]) },
    mknod: { opcode: Opcode.MKNOD, body: Buffer.concat([words(0o100644, 0, 0, 0), name('c')]) },
    symlink: { opcode: Opcode.SYMLINK, body: Buffer.concat([name('d'), name('target')]) },
    link: { opcode: Opcode.LINK, body: Buffer.concat([words(node), name('e')]) },
  };
  for (const [what, fields] of Object.entries(changes)) {
    kernel.channel.refuse = Errno.ENOENT;
    kernel.post(fields);
    await settle();
    t.same([...kernel.fs.held], [[node, 1n]], `${what}: no lookup is held`);
    t.equal(kernel.fs.openFiles.size, 0, `${what}: nothing is open`);
    t.equal(kernel.session.openHandles, 0);
  }
  for (const made of ['a', 'b', 'c', 'd', 'e']) t.ok(kernel.fs.node(made), `${made} is made all the same`);
});

t.test('session keeps the bytes of a write until the file system is done with them', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const handle = await kernel.openWith(node);
  const taken: Uint8Array[] = [];
  const done: (() => void)[] = [];
  const { writes } = kernel.fs;
  if (writes === undefined) return;
  writes.write = (_handle, { bytes }) => {
    taken.push(bytes);
    return new Promise((resolve) => done.push(() => resolve(bytes.length)));
  };
  const texts = ['first', 'second', 'third'].map((text) => text.repeat(1_000));
  for (const text of texts)
    kernel.post({ opcode: Opcode.WRITE, node, body: writeBody(handle, 0n, Buffer.from(text)) });
  await kernel.ask({ opcode: Opcode.SYMLINK, body: Buffer.concat([name('l'), name('x'.repeat(4_000))]) });
  await settle();
  t.same(
    taken.map((bytes) => Buffer.from(bytes).toString()),
    texts,
  );
  const memory = new Set(taken.map((bytes) => bytes.buffer));
  t.equal(memory.size, 3, 'each in memory of its own');
  for (const each of done.splice(0)) each();
  await settle();
  for (const text of texts)
    kernel.post({ opcode: Opcode.WRITE, node, body: writeBody(handle, 0n, Buffer.from(text)) });
  await settle();
  t.ok(
    taken.slice(4).every((bytes) => memory.has(bytes.buffer)),
    'which is used again',
  );
});

t.test('session reads no more than so many writes at a time', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const handle = await kernel.openWith(node);
  const release = Promise.withResolvers<number>();
  if (kernel.fs.writes) kernel.fs.writes.write = () => release.promise;
  let asked = 0;
  for (; kernel.channel.reading; asked++)
    kernel.post({ opcode: Opcode.WRITE, node, body: writeBody(handle, 0n, Buffer.from('x')) });
  t.equal(asked, 256);
  release.resolve(1);
  await settle();
  t.ok(kernel.channel.reading, 'it goes on when they are answered');
  t.match(await kernel.metrics.registry.metrics(), 'limit="fuse_writes"} 1');
});

t.test('session refuses changes that cannot be', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const handle = await kernel.openWith(node);
  const answer = async (opcode: number, body: Buffer, of = node): Promise<number> =>
    (await kernel.ask({ opcode, node: of, body })).errno;
  const attribute = (size: number, flags: number, text: string): Buffer =>
    Buffer.concat([words(size, flags), name(text), Buffer.from('value')]);
  const setattr = (valid: number, fields: readonly (number | bigint)[] = []): Buffer =>
    Buffer.concat([words(valid, 0, ...fields), Buffer.alloc(88)]).subarray(0, 88);
  const rename = (flags: number, parent = 1n): Buffer =>
    Buffer.concat([words(parent, flags, 0), name('page'), name('fresh')]);
  const { EINVAL, EFBIG, ESTALE, EBADF, EPERM, EOPNOTSUPP, ENAMETOOLONG, ENOENT, E2BIG } = Errno;
  const whole = writeBody(handle, 0n, Buffer.from('bytes'));
  for (const [what, expected, got] of [
    ['a write of less than it says', EINVAL, answer(Opcode.WRITE, whole.subarray(0, -1))],
    ['a write of more than it says', EINVAL, answer(Opcode.WRITE, Buffer.concat([whole, whole]))],
    ['a write beyond all sizes', EFBIG, answer(Opcode.WRITE, writeBody(handle, 1n << 53n, Buffer.alloc(1)))],
    ['a write to an unknown handle', EBADF, answer(Opcode.WRITE, writeBody(999n, 0n, Buffer.alloc(1)))],
    ['an unknown attribute', EINVAL, answer(Opcode.SETATTR, setattr(1 << 12))],
    ['a size beyond all sizes', EFBIG, answer(Opcode.SETATTR, setattr(8, [0n, 1n << 60n]))],
    ['a pipe', EPERM, answer(Opcode.MKNOD, Buffer.concat([words(0o010644, 0, 0, 0), name('p')]), 1n)],
    ['unknown flags of rename', EINVAL, answer(Opcode.RENAME2, rename(4), 1n)],
    ['a rename to a node that is not held', ESTALE, answer(Opcode.RENAME2, rename(0, 4_242n), 1n)],
    [
      'a rename without a second name',
      EINVAL,
      answer(Opcode.RENAME, Buffer.concat([words(1n), name('a')]), 1n),
    ],
    [
      'a link of a node that is not held',
      ESTALE,
      answer(Opcode.LINK, Buffer.concat([words(9_999n), name('l')]), 1n),
    ],
    ['a link to nothing', ENOENT, answer(Opcode.SYMLINK, Buffer.concat([name('l'), name('')]), 1n)],
    [
      'too long a target',
      ENAMETOOLONG,
      answer(Opcode.SYMLINK, Buffer.concat([name('l'), name('x'.repeat(4_096))]), 1n),
    ],
    ['a dot', EINVAL, answer(Opcode.UNLINK, name('.'), 1n)],
    ['a name with a slash', EINVAL, answer(Opcode.MKDIR, Buffer.concat([words(0, 0), name('a/b')]), 1n)],
    ['an unknown mode of fallocate', EOPNOTSUPP, answer(Opcode.FALLOCATE, words(handle, 0n, 10n, 8, 0))],
    ['fallocate of nothing', EINVAL, answer(Opcode.FALLOCATE, words(handle, 0n, 0n, 0, 0))],
    [
      'fallocate beyond all sizes',
      EFBIG,
      answer(Opcode.FALLOCATE, words(handle, 10n, (1n << 53n) - 1n, 0, 0)),
    ],
    ['an unknown seek', EINVAL, answer(Opcode.LSEEK, words(handle, 0n, 9, 0))],
    ['flags of a copy', EINVAL, answer(Opcode.COPY_FILE_RANGE, words(handle, 0n, node, handle, 0n, 1n, 1n))],
    [
      'a copy to an unknown handle',
      EBADF,
      answer(Opcode.COPY_FILE_RANGE, words(handle, 0n, node, 99n, 0n, 1n, 0n)),
    ],
    ['a value of another length', EINVAL, answer(Opcode.SETXATTR, attribute(4, 0, 'user.x'))],
    ['too large a value', E2BIG, answer(Opcode.SETXATTR, attribute(65_537, 0, 'user.x'))],
    ['unknown flags of setxattr', EINVAL, answer(Opcode.SETXATTR, attribute(5, 4, 'user.x'))],
    [
      'a lock that ends before it begins',
      EINVAL,
      answer(Opcode.SETLK, words(handle, 1n, 5n, 4n, READ, 1, 0, 0)),
    ],
    ['an unknown kind of lock', EINVAL, answer(Opcode.SETLK, words(handle, 1n, 0n, 4n, 3, 1, 0, 0))],
    ['a test for no lock', EINVAL, answer(Opcode.GETLK, words(handle, 1n, 0n, 4n, NONE, 1, 0, 0))],
  ] as const)
    t.equal(await got, expected, what);
  for (const opcode of [Opcode.TMPFILE, Opcode.SYNCFS, Opcode.STATX])
    t.equal(await answer(opcode, Buffer.alloc(64)), Errno.ENOSYS);
  t.equal(kernel.fs.calls.get('change:tmpfile'), undefined);
});

t.test('session sets exactly the attributes that it is told', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const [MODE, UID, GID, SIZE, ATIME, MTIME, ATIME_NOW, KILL] = [1, 2, 4, 8, 16, 32, 128, 2048];
  const set = (valid: number): Promise<Reply> => {
    const body = Buffer.concat([
      words(valid, 0, 0n, 10n, 0n, 5n, -6n, 0n, 7, 999_999_999, 0, 0o104755, 0, 1234, 5678, 0),
    ]);
    t.equal(body.length, 88);
    return kernel.ask({ opcode: Opcode.SETATTR, node, body });
  };
  const last = (): string | undefined => kernel.fs.trace.at(-1);
  t.equal((await set(MODE)).errno, 0);
  t.equal(last(), `setattr mode=${0o4755}`);
  await set(UID | GID | SIZE);
  t.equal(last(), 'setattr sizeBytes=10 uid=1234 gid=5678');
  await set(ATIME | MTIME);
  t.equal(last(), 'setattr accessedNs=5000000007 modifiedNs=-5000000001');
  await set(ATIME | ATIME_NOW | KILL);
  t.equal(last(), 'setattr accessedNs=now dropSetIds=true');
  await kernel.ask({ opcode: Opcode.OPEN, node, body: words(0o1001, 1) });
  t.match(
    last(),
    /^setattr dropSetIds=true by handle/,
    'a truncating open of one who may not keep set-ID bits',
  );
});

t.test('session finds no holes while a mapping may have filled them', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('empty');
  const seek = async (handle: bigint, offset: bigint, whence: number): Promise<bigint | number> => {
    const { errno, body } = await kernel.ask({
      opcode: Opcode.LSEEK,
      node,
      body: words(handle, offset, whence, 0),
    });
    return errno === 0 ? body.readBigUInt64LE(0) : errno;
  };
  const [DATA, HOLE] = [3, 4];
  const reader = await kernel.openWith(node, O_RDONLY);
  kernel.fs.node('empty').content.truncate(100_000);
  t.equal(await seek(reader, 5n, DATA), Errno.ENXIO);
  t.equal(await seek(reader, 5n, HOLE), 5n);
  const writer = await kernel.openWith(node);
  t.equal(await seek(reader, 5n, DATA), 5n);
  t.equal(await seek(reader, 5n, HOLE), 100_000n);
  t.equal(await seek(writer, 100_000n, DATA), Errno.ENXIO);
  await kernel.ask({ opcode: Opcode.RELEASE, node, body: words(writer, 0, 0, 0n) });
  t.equal(await seek(reader, 5n, HOLE), 5n);
});

t.test('session ends locks with what they belong to', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const [one, other] = [await kernel.openWith(node), await kernel.openWith(node)];
  const take = async (handle: bigint, owner: bigint, flock = false): Promise<number> => {
    const body = kernel.lockBody(handle, owner, { kind: WRITE, flock });
    return (await kernel.ask({ opcode: Opcode.SETLK, node, body })).errno;
  };
  t.equal(await take(one, 1n), 0);
  t.equal(await take(other, 2n), Errno.EAGAIN);
  const found = await kernel.ask({
    opcode: Opcode.GETLK,
    node,
    body: kernel.lockBody(other, 2n, { kind: READ }),
  });
  t.same([found.body.readUInt32LE(16), found.body.readUInt32LE(20)], [WRITE, 77]);
  await kernel.ask({ opcode: Opcode.FLUSH, node, body: words(other, 0, 0, 1n) });
  t.equal(await take(other, 2n), 0, 'the owner closed some descriptor');
  await kernel.ask({ opcode: Opcode.RELEASE, node, body: words(other, 0, 0, 0n) });
  t.equal(await take(one, 1n), 0, 'the handle is gone, and no close was told');

  t.equal(await take(one, 5n, true), 0);
  const third = await kernel.openWith(node);
  t.equal(await take(third, 6n, true), Errno.EAGAIN);
  const UNLOCK = 2;
  await kernel.ask({ opcode: Opcode.RELEASE, node, body: words(one, 0, UNLOCK, 5n) });
  t.equal(await take(third, 6n, true), 0);
  await kernel.ask({ opcode: Opcode.RELEASE, node, body: words(third, 0, UNLOCK, 6n) });
  t.equal(kernel.fs.locks?.locks.size, 0);
});

t.test('session lets a wait for a lock be interrupted', async (t) => {
  const kernel = await connected(t);
  const node = await kernel.lookup('page');
  const handle = await kernel.openWith(node);
  const ask = (opcode: number, owner: bigint, kind: number): bigint =>
    kernel.post({ opcode, node, body: kernel.lockBody(handle, owner, { kind }) });
  ask(Opcode.SETLK, 1n, WRITE);
  const [given, up] = [ask(Opcode.SETLKW, 2n, WRITE), ask(Opcode.SETLKW, 3n, WRITE)];
  await settle();
  t.same([kernel.replyTo(given), kernel.replyTo(up)], [undefined, undefined]);
  kernel.post({ opcode: Opcode.INTERRUPT, node: 0n, body: words(up) });
  await settle();
  t.match(kernel.replyTo(up), { errno: Errno.EINTR });
  ask(Opcode.SETLK, 1n, NONE);
  await settle();
  t.match(kernel.replyTo(given), { errno: 0 });
  t.same(kernel.log, []);
});

t.test('session reads what was written, through the same handle', async (t) => {
  const kernel = await connected(t);
  const { body } = await kernel.ask({ opcode: Opcode.CREATE, body: createBody('fresh') });
  const [node, handle] = [body.readBigUInt64LE(0), body.readBigUInt64LE(128)];
  const bytes = Buffer.alloc(1024 * 1024, 'w');
  const written = await kernel.ask({ opcode: Opcode.WRITE, node, body: writeBody(handle, 5n, bytes) });
  t.equal(written.body.readUInt32LE(0), bytes.length, 'as large as agreed');
  const read = await kernel.ask({ opcode: Opcode.READ, node, body: readBody(handle, 0n, 10) });
  t.equal(read.body.toString('latin1'), '\0\0\0\0\0wwwww');
  for (const opcode of [Opcode.FSYNC, Opcode.FLUSH, Opcode.RELEASE])
    t.match(await kernel.ask({ opcode, node, body: words(handle, 1, 0, 0n) }), { errno: 0 });
  t.same(kernel.fs.trace.slice(-3), ['fdatasync', 'flush', 'release']);
});
