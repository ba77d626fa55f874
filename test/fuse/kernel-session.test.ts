import t, { type Test } from 'tap';
import { Errno } from '../../lib/fuse/errno.ts';
import { CHANGES, Opcode, OpenFlag, operationName } from '../../lib/fuse/opcodes.ts';
import { ErrnoError } from '../../lib/fuse/operations.ts';
import { conformanceTree } from '../conformance/tree.ts';
import { FakeKernel, name, readBody, words } from './fake-kernel.ts';
import { MemoryFs } from './memory-fs.ts';

const small = conformanceTree.filter(({ path }) => !path.startsWith('many'));

async function connected(t: Test, fs = new MemoryFs(small)): Promise<{ fs: MemoryFs; kernel: FakeKernel }> {
  const kernel = new FakeKernel(fs);
  t.teardown(() => fs.dispose());
  await kernel.init();
  return { fs, kernel };
}

t.test('session answers INIT before anything else is read', async (t) => {
  const fs = new MemoryFs(small);
  t.teardown(() => fs.dispose());
  const kernel = new FakeKernel(fs);
  t.match(await kernel.ask({ opcode: Opcode.GETATTR, body: words(0, 0, 0n) }), { errno: Errno.EIO });
  t.equal(fs.connection, undefined);
  t.match(await kernel.init(), { errno: 0 });
  t.ok(fs.connection);
  t.match(await kernel.init(), { errno: Errno.EINVAL }, 'INIT twice');
  t.match(await kernel.session.negotiated, { minor: 45 });
});

t.test('session refuses a kernel that is too old, and says so', async (t) => {
  const fs = new MemoryFs(small);
  t.teardown(() => fs.dispose());
  const kernel = new FakeKernel(fs);
  t.match(await kernel.init({ minor: 30 }), { errno: Errno.EPROTO });
  await t.rejects(kernel.session.negotiated, { code: 'kernel-too-old' });
});

t.test('session counts lookups exactly', async (t) => {
  const { fs, kernel } = await connected(t);
  const node = await kernel.lookup('page');
  t.equal(await kernel.lookup('page'), node);
  t.equal(fs.held.get(node as never), 2n);
  kernel.post({ opcode: Opcode.FORGET, node, body: words(1n) });
  t.equal(fs.held.get(node as never), 1n);
  kernel.post({ opcode: Opcode.BATCH_FORGET, node: 0n, body: words(2, 0, node, 1n, 999n, 5n) });
  t.equal(fs.held.size, 0);
  t.equal(kernel.session.nodes, 0);
  t.match(await kernel.ask({ opcode: Opcode.GETATTR, node, body: words(0, 0, 0n) }), { errno: Errno.ESTALE });
});

t.test('session gives back what the kernel did not take', async (t) => {
  const { fs, kernel } = await connected(t);
  const node = await kernel.lookup('page');
  kernel.channel.refuse = Errno.ENOENT;
  kernel.post({ opcode: Opcode.LOOKUP, body: name('one') });
  await new Promise(setImmediate);
  t.same([...fs.held.keys()], [node], 'the entry of an interrupted lookup is forgotten');
  kernel.channel.refuse = Errno.ENOENT;
  kernel.post({ opcode: Opcode.OPEN, node, body: words(0, 0) });
  await new Promise(setImmediate);
  t.equal(fs.openFiles.size, 0, 'the handle of an interrupted open is released');
  const { body } = await kernel.ask({ opcode: Opcode.OPENDIR, body: words(0, 0) });
  kernel.channel.refuse = Errno.ENOENT;
  kernel.post({ opcode: Opcode.READDIRPLUS, body: readBody(body.readBigUInt64LE(0), 0n, 4096) });
  await new Promise(setImmediate);
  t.same([...fs.held.keys()], [node], 'entries of a lost listing are forgotten');
});

t.test('session answers EIO when the kernel refuses a reply', async (t) => {
  const { kernel } = await connected(t);
  kernel.channel.refuse = Errno.EINVAL;
  t.match(await kernel.ask({ opcode: Opcode.STATFS }), { errno: Errno.EIO });
  t.match(kernel.log, ['the kernel refused a reply']);
});

t.test('session turns an unhandled error into EIO, a log line and a metric', async (t) => {
  const { fs, kernel } = await connected(t);
  fs.statistics = () => Promise.reject(new Error('a fault'));
  t.match(await kernel.ask({ opcode: Opcode.STATFS }), { errno: Errno.EIO });
  fs.statistics = () => {
    throw new Error('a fault at once');
  };
  t.match(await kernel.ask({ opcode: Opcode.STATFS }), { errno: Errno.EIO });
  fs.statistics = () => Promise.reject(new ErrnoError(100_000, 'no errno'));
  t.match(await kernel.ask({ opcode: Opcode.STATFS }), { errno: Errno.EIO }, 'not an errno of the kernel');
  t.same(kernel.log, ['operation failed', 'operation failed', 'operation failed']);
  t.match(
    await kernel.metrics.registry.metrics(),
    'perigee_fuse_requests_total{op="statfs",errno="EIO"} 3',
    'counted',
  );
});

t.test('session routes every change to refuseChange by its name', async (t) => {
  const { fs, kernel } = await connected(t);
  for (const opcode of CHANGES) {
    t.match(
      await kernel.ask({ opcode, body: Buffer.alloc(64) }),
      { errno: Errno.EROFS },
      operationName(opcode),
    );
    t.equal(fs.calls.get(`change:${operationName(opcode)}`), 1);
  }
});

t.test('session answers ENOSYS to what it does not know', async (t) => {
  const { kernel } = await connected(t);
  for (const opcode of [0, Opcode.IOCTL, Opcode.POLL, Opcode.LSEEK, Opcode.STATX, 54, 4096, 0xffff_ffff])
    t.match(await kernel.ask({ opcode, body: Buffer.alloc(64) }), { errno: Errno.ENOSYS }, String(opcode));
});

t.test('session refuses handles, offsets and lengths that cannot be', async (t) => {
  const { kernel } = await connected(t);
  const node = await kernel.lookup('page');
  const { handle } = await kernel.open(node);
  const read = async (body: Buffer): Promise<{ errno: number; bytes: number }> => {
    const reply = await kernel.ask({ opcode: Opcode.READ, node, body });
    return { errno: reply.errno, bytes: reply.body.length };
  };
  t.match(await read(readBody(handle, 0n, 100)), { errno: 0, bytes: 100 });
  t.match(await read(readBody(99n, 0n, 100)), { errno: Errno.EBADF });
  t.match(await read(readBody(handle, 1n << 53n, 100)), { errno: Errno.EINVAL });
  t.match(await read(readBody(handle, (1n << 53n) - 1n, 100)), { errno: 0, bytes: 0 });
  t.match(await read(readBody(handle, -1n, 100)), { errno: Errno.EINVAL });
  t.match(await read(readBody(handle, 0n, 2 ** 20 + 1)), { errno: Errno.EINVAL });
  t.match(await read(readBody(handle, 0n, 100).subarray(0, 39)), { errno: Errno.EINVAL });
  const release = { opcode: Opcode.RELEASE, node, body: words(handle, 0, 0, 0n) };
  t.match(await kernel.ask(release), { errno: 0 });
  t.match(await kernel.ask(release), { errno: Errno.EBADF }, 'released twice');
});

t.test('session answers extended attributes by the room there is', async (t) => {
  const { kernel } = await connected(t);
  const node = await kernel.lookup('page');
  const ask = async (room: number, attribute: string) =>
    kernel.ask({ opcode: Opcode.GETXATTR, node, body: Buffer.concat([words(room, 0), name(attribute)]) });
  t.equal((await ask(0, 'user.perigee.test')).body.readUInt32LE(0), 4);
  t.equal((await ask(100, 'user.perigee.test')).body.toString(), 'page');
  t.match(await ask(3, 'user.perigee.test'), { errno: Errno.ERANGE });
  t.match(await ask(100, 'user.absent'), { errno: Errno.ENODATA });
  const list = await kernel.ask({ opcode: Opcode.LISTXATTR, node, body: words(100, 0) });
  t.equal(list.body.toString(), 'user.perigee.test\0');
});

t.test('session aborts an interrupted request, also if INTERRUPT comes first', async (t) => {
  const { fs, kernel } = await connected(t);
  const node = await kernel.lookup('page');
  const { handle } = await kernel.open(node);
  fs.onRead = (_path, { signal }) =>
    new Promise((_resolve, reject) => {
      if (signal.aborted) reject(signal.reason as Error);
      signal.addEventListener('abort', () => reject(new Error('any error at all')));
    });
  const blocked = kernel.post({ opcode: Opcode.READ, node, body: readBody(handle, 0n, 10) });
  await new Promise(setImmediate);
  t.equal(kernel.replyTo(blocked), undefined);
  kernel.post({ opcode: Opcode.INTERRUPT, node: 0n, body: words(blocked) });
  await new Promise(setImmediate);
  t.match(kernel.replyTo(blocked), { errno: Errno.EINTR });

  kernel.post({ opcode: Opcode.INTERRUPT, node: 0n, body: words(5_000n) });
  t.match(await kernel.ask({ opcode: Opcode.READ, unique: 5_000n, node, body: readBody(handle, 0n, 10) }), {
    errno: Errno.EINTR,
  });
  t.same(kernel.log, []);
});

t.test('session shares the first mode and backing id of a node with its later opens', async (t) => {
  const registered: number[] = [];
  const registrar = {
    register: (fd: number) => registered.push(fd),
    unregister: () => void registered.pop(),
  };
  const fs = new MemoryFs(small, { passthrough: true });
  t.teardown(() => fs.dispose());
  const kernel = new FakeKernel(fs, { registrar });
  await kernel.init();
  const node = await kernel.lookup('page');
  const first = await kernel.open(node);
  const second = await kernel.open(node);
  t.equal(first.flags, OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH);
  t.equal(second.backingId, first.backingId);
  t.equal(registered.length, 1);
  fs.passthrough = false;
  t.equal((await kernel.open(node)).backingId, first.backingId, 'one mode for a node, whatever is asked for');
  const other = await kernel.lookup('one');
  const served = await kernel.open(other);
  fs.passthrough = true;
  t.match(await kernel.open(other), { backingId: 0, flags: OpenFlag.NOFLUSH }, 'and the reverse');
  for (const handle of [served.handle, first.handle, second.handle])
    await kernel
      .ask({ opcode: Opcode.RELEASE, node: 0n, body: words(handle, 0, 0, 0n) })
      .catch(() => undefined);
  t.equal(registered.length, 1, 'still open once');
});

t.test('session ends when the device does, and aborts what is left', async (t) => {
  const { fs, kernel } = await connected(t);
  const node = await kernel.lookup('page');
  const { handle } = await kernel.open(node);
  const aborted = Promise.withResolvers<void>();
  fs.onRead = (_path, { signal }) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted.resolve();
        reject(signal.reason as Error);
      });
    });
  kernel.post({ opcode: Opcode.READ, node, body: readBody(handle, 0n, 10) });
  for (const code of ['EINTR', 'EAGAIN', 'ENOENT']) {
    kernel.channel.fail(code);
    t.ok(kernel.channel.reading, `${code} is repeated`);
  }
  kernel.channel.fail('ENODEV');
  await aborted.promise;
  t.match(await kernel.session.ended, { reason: 'unmounted' });
  t.equal(fs.disconnections, 1);
  t.ok(kernel.channel.closed);
  const replies = kernel.channel.replies.length;
  await new Promise(setImmediate);
  t.equal(kernel.channel.replies.length, replies, 'nothing is sent to a closed device');
});

t.test('session reports an aborted connection', async (t) => {
  const { kernel } = await connected(t);
  kernel.channel.fail('ECONNABORTED');
  t.match(await kernel.session.ended, { reason: 'aborted', error: { code: 'ECONNABORTED' } });
});

t.test('session reads no more requests than it may answer at a time', async (t) => {
  const { fs, kernel } = await connected(t);
  const release = Promise.withResolvers<Uint8Array>();
  fs.onRead = () => release.promise;
  const node = await kernel.lookup('page');
  const { handle } = await kernel.open(node);
  const asked: bigint[] = [];
  while (kernel.channel.reading)
    asked.push(kernel.post({ opcode: Opcode.READ, node, body: readBody(handle, 0n, 10) }));
  t.equal(asked.length, 4096);
  release.resolve(Buffer.from('answered'));
  await new Promise(setImmediate);
  t.ok(kernel.channel.reading, 'it goes on when requests are answered');
  for (const unique of asked) if (kernel.replyTo(unique)?.errno !== 0) t.fail('a request was lost');
  t.match(await kernel.metrics.registry.metrics(), 'limit="fuse_requests"} 1');
});
