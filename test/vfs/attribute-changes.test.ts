import t, { type Test } from 'tap';
import { ROOT_NODE } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { withErrno } from './fake-mount.ts';
import { O_RDWR, WritingMount } from './writing-mount.ts';

function mounted(t: Test, writeMode: 'through' | 'back' = 'through'): WritingMount {
  const mount = new WritingMount({ writeMode });
  t.teardown(() => mount.writeBack.close());
  return mount;
}

t.test('attributes of a file that nobody writes are changed at the origin', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  const { node } = await mount.walk('f');
  const changes = { mode: 0o600, uid: 5, modifiedNs: 123n } as const;
  const reply = await mount.writes.setAttributes(node, changes, mount.context());
  t.match(reply.attributes, { mode: 0o100600, uid: 5, gid: 1000, modifiedNs: 123n });
  t.match(mount.namespace.find('f'), { mode: 0o600, uid: 5, modifiedNs: 123n });
  await mount.writes.setAttributes(node, {}, mount.context());
  await mount.writes.setAttributes(node, { accessedNs: 'now' }, mount.context());
  t.same(mount.changes.calls, ['setAttributes'], 'nothing to change, nothing to say');
  await mount.writes.setAttributes(ROOT_NODE, { modifiedNs: 'now', mode: 0o2777 }, mount.context());
  t.match(await mount.attributesOf(ROOT_NODE), { mode: 0o042777 });
});

t.test('attributes of a file that was never committed go with its first version', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f');
  const { writes } = mount;
  const reply = await writes.setAttributes(file.node, { mode: 0o600, modifiedNs: 5n }, mount.context());
  t.match(reply, { validForMs: 0, attributes: { mode: 0o100600, modifiedNs: 5n } });
  await writes.setExtendedAttribute(
    file.node,
    { name: 'user.x', value: Buffer.from('1'), mode: 'create' },
    mount.context(),
  );
  t.same(mount.changes.calls, ['createFile f']);
  await mount.close(file);
  t.match(mount.namespace.find('f'), {
    mode: 0o600,
    modifiedNs: 5n,
    extended: { 'user.x': Buffer.from('1') },
  });
});

t.test('attributes of a file that others see are changed at once, also while it is open', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  const file = await mount.openFlags('f', O_RDWR);
  const changes = { mode: 0o600, modifiedNs: 5_000_000_000n } as const;
  await mount.writes.setAttributes(file.node, changes, mount.context());
  t.match(mount.namespace.find('f'), changes);
  t.match(await mount.attributesOf(file.node), { mode: 0o100600, modifiedNs: 5_000_000_000n });
  const attribute = { name: 'user.x', value: Buffer.from('1'), mode: 'either' } as const;
  await mount.writes.setExtendedAttribute(file.node, attribute, mount.context());
  await mount.close(file);
  t.notOk(mount.changes.calls.includes('commit'), 'they are no reason for another version');
  const again = await mount.openFlags('f', O_RDWR);
  await mount.write(again, 'y');
  await mount.close(again);
  t.match(mount.namespace.find('f'), { mode: 0o600, extended: { 'user.x': Buffer.from('1') } });
});

t.test('a version that is still to come does not undo what was changed meanwhile', async (t) => {
  const mount = mounted(t, 'back');
  mount.namespace.put('f', 'x');
  const file = await mount.openFlags('f', O_RDWR);
  await mount.write(file, 'y');
  await mount.close(file);
  const { node } = await mount.walk('f');
  const changes = { mode: 0o600, modifiedNs: 5_000_000_000n } as const;
  await mount.writes.setAttributes(node, changes, mount.context());
  t.match(mount.namespace.find('f'), { ...changes, sizeBytes: 1 });
  t.match(await mount.attributesOf((await mount.walk('f')).node), {
    mode: 0o100600,
    modifiedNs: 5_000_000_000n,
  });
  await mount.writeBack.converge();
  t.equal(await mount.committed('f'), 'y');
  t.match(mount.namespace.find('f'), changes);
});

t.test('a copy that is opened again takes what was changed at the origin meanwhile', async (t) => {
  const mount = mounted(t);
  mount.writeBack.lingers = true;
  await mount.close(await mount.create('f'));
  await mount.writes.setAttributes((await mount.walk('f')).node, { mode: 0o400 }, mount.context());
  t.equal(mount.namespace.find('f')?.mode, 0o400, 'at once');
  const again = await mount.openFlags('f', O_RDWR);
  await mount.write(again, 'x');
  await mount.close(again);
  t.match(mount.namespace.find('f'), { mode: 0o400, sizeBytes: 1 }, 'the next version does not undo it');
});

t.test('a file that waits for its convergence is changed here', async (t) => {
  const mount = mounted(t, 'back');
  const file = await mount.create('f');
  await mount.close(file);
  const { node } = await mount.walk('f');
  await mount.writes.setAttributes(node, { mode: 0o600 }, mount.context());
  t.same(mount.changes.calls, ['createFile f']);
  t.equal((await mount.attributesOf(node)).mode, 0o100600);
  await mount.writeBack.converge();
  t.equal(mount.namespace.find('f')?.mode, 0o600);
});

t.test('a new owner and a new size take set-ID bits off a file, not off a directory', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  mount.namespace.mkdir('d');
  for (const path of ['f', 'd']) mount.namespace.change(path, { mode: 0o6755 });
  const { writes } = mount;
  for (const path of ['f', 'd']) {
    await writes.setAttributes((await mount.walk(path)).node, { gid: 8, dropSetIds: true }, mount.context());
  }
  t.equal(mount.namespace.find('f')?.mode, 0o755);
  t.equal(mount.namespace.find('d')?.mode, 0o6755);
  mount.namespace.change('f', { mode: 0o6745 });
  await writes.setAttributes(
    (await mount.walk('f')).node,
    { sizeBytes: 0, dropSetIds: true },
    mount.context(),
  );
  t.equal(mount.namespace.find('f')?.mode, 0o2745, 'a group that may not execute keeps its bit');
});

t.test('a file that is cut by its path has another version before that returns', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'content');
  const { node } = await mount.walk('f');
  const { attributes } = await mount.writes.setAttributes(node, { sizeBytes: 4 }, mount.context());
  t.equal(attributes.sizeBytes, 4);
  t.equal(await mount.committed('f'), 'cont');
  t.equal(mount.writeBack.copies.size, 0);
  t.equal(await mount.text(await mount.openFlags('f', 0)), 'cont');
  const reader = await mount.openFlags('f', 0);
  await t.rejects(
    mount.writes.setAttributes(reader.node, { sizeBytes: 1 }, mount.context()),
    withErrno(Errno.ESTALE),
    'a version that is open stays: the kernel walks again',
  );
  await mount.writes.setAttributes((await mount.walk('f')).node, { sizeBytes: 1 }, mount.context());
  t.equal(await mount.committed('f'), 'c');
  t.equal(await mount.text(reader), 'cont');
});

t.test('a file that is cut through its handle has its version from the close', async (t) => {
  const mount = mounted(t);
  const file = await mount.create('f');
  await mount.write(file, 'content');
  const { handle } = file.reply;
  await mount.writes.setAttributes(file.node, { sizeBytes: 9, handle }, mount.context());
  t.same(mount.changes.calls, ['createFile f']);
  await mount.close(file);
  t.equal(await mount.committed('f'), 'content\0\0');
  const sizeBytes = 0;
  await t.rejects(
    mount.writes.setAttributes(ROOT_NODE, { sizeBytes }, mount.context()),
    withErrno(Errno.EISDIR),
  );
});

t.test('extended attributes are set, listed and removed, ours excepted', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  const { node } = await mount.walk('f');
  const { vfs, writes } = mount;
  const context = mount.context();
  const set = (name: string, mode: 'either' | 'create' | 'replace' = 'either'): Promise<void> =>
    writes.setExtendedAttribute(node, { name, value: Buffer.from([0, 255]), mode }, context);
  await t.rejects(set('user.a', 'replace'), withErrno(Errno.ENODATA));
  await set('user.a', 'create');
  await t.rejects(set('user.a', 'create'), withErrno(Errno.EEXIST));
  await set('user.b');
  t.same(await vfs.listExtendedAttributes(node, context), ['user.a', 'user.b']);
  t.same(Buffer.from(await vfs.getExtendedAttribute(node, 'user.a', context)), Buffer.from([0, 255]));
  await writes.removeExtendedAttribute(node, 'user.a', context);
  t.same(await vfs.listExtendedAttributes(node, context), ['user.b']);
  await t.rejects(writes.removeExtendedAttribute(node, 'user.a', context), withErrno(Errno.ENODATA));
  await t.rejects(set('user.perigee.version'), withErrno(Errno.EPERM));
  await t.rejects(writes.removeExtendedAttribute(node, 'user.perigee.x', context), withErrno(Errno.EPERM));
  await t.rejects(set('security.x'), withErrno(Errno.EOPNOTSUPP));
});
