import t, { type Test } from 'tap';
import { ROOT_NODE } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { withErrno } from './fake-mount.ts';
import { O_EXCL, O_RDWR, O_TRUNC, WritingMount } from './writing-mount.ts';

function mounted(t: Test, writeMode: 'through' | 'back' = 'through'): WritingMount {
  const mount = new WritingMount({ writeMode });
  t.teardown(() => mount.writeBack.close());
  return mount;
}

t.test('a mount without the means to write has no changes', async (t) => {
  const { vfs } = new WritingMount();
  t.same([vfs.writes, vfs.locks], [undefined, undefined]);
});

t.test('a new file is shown as it is written, and committed by its close', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f', { mode: 0o640 });
  t.match(file.entry, { entryValidForMs: 0, validForMs: 0, attributes: { mode: 0o100640, sizeBytes: 0 } });
  t.match(file.entry.attributes, { uid: 1000, gid: 1000, links: 1 });
  t.ok(file.reply.backing?.fd, 'the kernel writes it by itself');
  t.equal(await mount.write(file, 'hello'), 5);
  t.equal((await mount.attributesOf(file.node)).sizeBytes, 5);
  t.equal(await mount.committed('f'), undefined);
  await mount.close(file);
  t.equal(await mount.committed('f'), 'hello');
  t.equal(mount.namespace.find('f')?.mode, 0o640);
  t.same(mount.writeBack.calls, ['publish through f', 'release through f']);
});

t.test('a file that is opened for writing is shared by all who open it from then on', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'first');
  const writer = await mount.openFlags('f', O_RDWR);
  t.equal(await mount.text(writer), 'first');
  await mount.write(writer, 'other');
  const reader = await mount.openFlags('f', 0);
  t.equal(reader.node, writer.node);
  t.equal(reader.reply.backing?.fd, writer.reply.backing?.fd);
  t.equal(await mount.text(reader), 'other');
  await mount.close(writer);
  t.equal(await mount.committed('f'), 'other');
  t.notOk(
    mount.writeBack.calls.some((call) => call.startsWith('release')),
    'the reader has it open',
  );
  await mount.close(reader);
  t.equal(mount.writeBack.calls.at(-1), 'release through f');
  t.same(mount.changes.calls, ['openWrite', 'commit', 'endWrite']);
});

t.test('handles that were open before the write began keep their version', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'first');
  const reader = await mount.openFlags('f', 0);
  await t.rejects(
    async () => mount.vfs.open(reader.node, O_RDWR, mount.context()),
    withErrno(Errno.ESTALE),
    'its node is of the version',
  );
  const writer = await mount.openFlags('f', O_RDWR | O_TRUNC);
  t.not(writer.node, reader.node);
  await mount.write(writer, 'new');
  t.equal(await mount.text(reader), 'first');
  t.equal((await mount.attributesOf(reader.node)).sizeBytes, 5);
  t.equal((await mount.attributesOf(writer.node)).sizeBytes, 3);
  await t.rejects(
    async () => mount.vfs.open(reader.node, 0, mount.context()),
    withErrno(Errno.ESTALE),
    'who comes by what the kernel remembers walks again',
  );
  await mount.close(writer);
  t.equal(await mount.text(reader), 'first');
  await mount.close(reader);
  const after = await mount.openFlags('f', 0);
  t.equal(await mount.text(after), 'new');
  t.notOk([reader.node, writer.node].includes(after.node), 'a version has a node of its own');
});

t.test('who comes with the node of a copy that has become a version walks again', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f');
  await mount.write(file, 'x');
  await mount.close(file);
  await t.rejects(async () => mount.vfs.open(file.node, 0, mount.context()), withErrno(Errno.ESTALE));
  await t.rejects(async () => mount.vfs.open(file.node, O_RDWR, mount.context()), withErrno(Errno.ESTALE));
  t.equal((await mount.attributesOf(file.node)).sizeBytes, 1, 'what it shows is the inode');
});

t.test('an open waits for a write of the file that is just beginning', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'first');
  const { node } = await mount.walk('f');
  const both = await Promise.all([
    mount.vfs.open(node, O_RDWR, mount.context()),
    mount.vfs.open(node, O_RDWR, mount.context()),
  ]);
  t.equal(both[0].backing?.fd, both[1].backing?.fd);
  t.same(mount.changes.calls, ['openWrite']);
});

t.test('a write that cannot begin leaves the file as it was', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'first');
  mount.changes.failures.set('openWrite', new NamespaceError('busy', 'another host'));
  await t.rejects(mount.openFlags('f', O_RDWR), withErrno(Errno.EBUSY));
  t.equal(await mount.text(await mount.openFlags('f', 0)), 'first');
});

t.test('a copy that waits for its convergence is what its file is here', async (t) => {
  const mount = mounted(t, 'back');
  const file = await mount.create('f');
  await mount.write(file, 'later');
  await mount.close(file);
  t.equal(await mount.committed('f'), undefined);
  t.equal((await mount.walk('f')).attributes.sizeBytes, 5);
  const reader = await mount.openFlags('f', 0);
  t.equal(await mount.text(reader), 'later');
  await mount.close(reader);
  const appender = await mount.openFlags('f', O_RDWR);
  await mount.write(appender, ' more', 5);
  await mount.close(appender);
  t.same(
    mount.writeBack.calls.filter((call) => !call.startsWith('publish')),
    ['release back f', 'reopen f', 'release back f', 'reopen f', 'release back f'],
    'every release has its opening',
  );
  await mount.writeBack.converge();
  t.equal(await mount.committed('f'), 'later more');
});

t.test('a failed publication reaches close, and the bytes stay', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f');
  await mount.write(file, 'kept');
  mount.writeBack.publishFailure = new TierError('unavailable', 'the store is away');
  await t.rejects(mount.close(file), withErrno(Errno.ETIMEDOUT));
  t.equal(await mount.text(await mount.openFlags('f', 0)), 'kept');
  mount.namespace.put('g', 'committed');
  const other = await mount.openFlags('g', O_RDWR | O_TRUNC);
  await mount.write(other, 'mine');
  await t.rejects(mount.close(other), withErrno(Errno.ETIMEDOUT));
  const { node, attributes } = await mount.walk('g');
  t.equal(attributes.sizeBytes, 4);
  t.equal((await mount.attributesOf(node)).sizeBytes, 4);
});

t.test('create tells what is there already', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'there');
  await t.rejects(mount.create('f', { flags: O_RDWR | O_EXCL }), withErrno(Errno.EEXIST));
  await t.rejects(mount.create('f'), withErrno(Errno.ESTALE), 'the kernel walks again and opens it');
  mount.changes.failures.set('createFile', new NamespaceError('exists', 'pending elsewhere'));
  await t.rejects(mount.create('g'), withErrno(Errno.EBUSY), 'another host is making it');
});

t.test('files with set-ID bits are served, and lose them when they are written', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  mount.namespace.change('f', { mode: 0o6755 });
  const file = await mount.openFlags('f', O_RDWR);
  t.equal(file.reply.backing, undefined);
  await mount.writes.write(
    file.reply.handle,
    { offset: 0, bytes: Buffer.from('y'), dropSetIds: true },
    mount.context(),
  );
  t.equal((await mount.attributesOf(file.node)).mode, 0o100755);
  await mount.close(file);
  t.equal(mount.namespace.find('f')?.mode, 0o755);
});

t.test('fsync makes the copy durable, of a version it has nothing to do', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('v', 'x');
  const [file, version] = [await mount.create('f'), await mount.openFlags('v', 0)];
  for (const { reply } of [file, version]) {
    await mount.writes.sync(reply.handle, { dataOnly: false }, mount.context());
  }
  t.same(mount.writeBack.calls, ['sync f']);
});

t.test('a file without a name is written for those who have it open', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f');
  await mount.write(file, 'x');
  await mount.writes.unlink(mount.place('f'), mount.context());
  t.match(await mount.attributesOf(file.node), { links: 0, sizeBytes: 1 });
  await mount.write(file, 'yz');
  t.equal(await mount.text(file), 'yz');
  await mount.close(file);
  t.same(mount.writeBack.calls, ['unlinked f', 'release through f'], 'nothing is published');
  t.equal(mount.writeBack.copies.size, 0);
});

t.test('bytes are copied between copies and from versions', async (t) => {
  const mount = new WritingMount({ writeMode: 'through', wholeOnOpenBytes: 0 });
  t.teardown(() => mount.writeBack.close());
  mount.namespace.put('v', 'version');
  const [from, to] = [await mount.openFlags('v', 0), await mount.create('f')];
  const range = { handle: to.reply.handle, offset: 0, length: 4 };
  t.equal(await mount.writes.copyRange({ handle: from.reply.handle, offset: 3 }, range, mount.context()), 4);
  t.equal(await mount.text(to), 'sion');
  const behind = { ...range, offset: 4 };
  t.equal(await mount.writes.copyRange({ handle: to.reply.handle, offset: 0 }, behind, mount.context()), 4);
  t.equal(await mount.text(to), 'sionsion');
  await t.rejects(
    mount.writes.copyRange(
      { handle: to.reply.handle, offset: 0 },
      { ...range, handle: from.reply.handle },
      mount.context(),
    ),
    withErrno(Errno.EBADF),
  );
});

t.test('a driver without passthrough is served', async (t) => {
  const mount = new WritingMount({ writeMode: 'through', passthrough: false });
  t.teardown(() => mount.writeBack.close());
  const file = await mount.create('f');
  t.equal(file.reply.backing, undefined);
  await mount.write(file, 'bytes');
  t.equal(await mount.text(file), 'bytes');
  await mount.close(file);
  t.equal((await mount.lookup(ROOT_NODE, 'f')).attributes.sizeBytes, 5);
});
