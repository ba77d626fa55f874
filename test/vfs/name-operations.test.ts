import t, { type Test } from 'tap';
import { ROOT_NODE } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { nameOf, withErrno } from './fake-mount.ts';
import { O_RDWR, O_TRUNC, WritingMount } from './writing-mount.ts';

function mounted(t: Test, options: { readonly writeMode?: 'through' | 'back' } = {}): WritingMount {
  const mount = new WritingMount({ writeMode: 'through', ...options });
  t.teardown(() => mount.writeBack.close());
  return mount;
}

t.test(
  'what is made belongs to who makes it, and to the group of a directory that hands it down',
  async (t) => {
    const mount = mounted(t);
    const { writes } = mount;
    const made = await writes.makeDirectory(mount.place('d'), 0o750, mount.context());
    mount.took(made.node);
    t.match(made.attributes, { mode: 0o040750, uid: 1000, gid: 1000, links: 2 });
    const link = await writes.makeSymlink(mount.place('l'), Buffer.from('d/x'), mount.context());
    t.equal(Buffer.from(await mount.vfs.readLink(link.node, mount.context())).toString(), 'd/x');
    mount.namespace.change('d', { mode: 0o2770, gid: 7 });
    const { node } = await mount.walk('d');
    const below = await writes.makeDirectory(mount.place('e', node), 0o755, mount.context());
    t.match(below.attributes, { mode: 0o042755, gid: 7 });
    const file = await writes.makeFile(mount.place('f', node), 0o600, mount.context());
    t.match(file.attributes, { mode: 0o100600, gid: 7, sizeBytes: 0 });
    t.equal(await mount.committed('d/f'), '', 'others see it at once');
  },
);

t.test('names and targets that are not UTF-8 cannot be made, and are not there', async (t) => {
  const mount = mounted(t);
  const { writes } = mount;
  const place = { parent: ROOT_NODE, name: Buffer.from([0xff]) };
  const none = withErrno(Errno.EINVAL);
  await t.rejects(writes.create(place, { mode: 0o644, flags: O_RDWR }, mount.context()), none);
  await t.rejects(writes.makeDirectory(place, 0o755, mount.context()), none);
  await t.rejects(writes.makeSymlink(mount.place('l'), Buffer.from([0xff]), mount.context()), none);
  await t.rejects(writes.unlink(place, mount.context()), withErrno(Errno.ENOENT));
  t.same(mount.changes.calls, []);
});

t.test('hard links are refused', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  const { node } = await mount.walk('f');
  await t.rejects(mount.writes.link(node, mount.place('g'), mount.context()), withErrno(Errno.EPERM));
});

t.test('a listing that the kernel keeps is dropped with each change of a name', async (t) => {
  const mount = mounted(t);
  mount.namespace.validForMs = 60_000;
  mount.namespace.put('f', 'x');
  const before = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
  t.equal(before.keepCache, true);
  const { writes } = mount;
  const changes: Readonly<Record<string, () => Promise<unknown>>> = {
    create: () => mount.create('g'),
    mkdir: () => writes.makeDirectory(mount.place('d'), 0o755, mount.context()),
    rename: () => writes.rename(mount.place('g'), { ...mount.place('h'), mode: 'replace' }, mount.context()),
    unlink: () => writes.unlink(mount.place('f'), mount.context()),
    rmdir: () => writes.removeDirectory(mount.place('d'), mount.context()),
  };
  for (const [what, change] of Object.entries(changes)) {
    mount.notified.length = 0;
    await mount.vfs.attributes(ROOT_NODE, undefined, mount.context());
    await change();
    t.has(new Set(mount.notified), new Set([`listing ${ROOT_NODE}`, `attributes ${ROOT_NODE}`]), what);
    t.notOk(
      mount.notified.some((each) => each.startsWith('entry')),
      'the kernel knows the names that it changed itself',
    );
  }
  t.same((await mount.list(ROOT_NODE)).map(nameOf), ['.', '..', 'h']);
});

t.test('a pass over a directory during which a name was made is not kept', async (t) => {
  const mount = mounted(t);
  mount.namespace.validForMs = 60_000;
  for (let at = 0; at < 5; at++) mount.namespace.put(`f${at}`, 'x');
  const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
  const first = await mount.readSome(handle, 0n, 4);
  await mount.create('a');
  mount.notified.length = 0;
  await mount.readAll(handle, 100, first.at(-1)?.nextOffset);
  t.ok(mount.notified.includes(`listing ${ROOT_NODE}`), 'before the kernel hears of the end');
});

t.test('after a change of which nobody knows whether it was done the kernel asks again', async (t) => {
  const mount = mounted(t);
  mount.namespace.validForMs = 60_000;
  mount.namespace.put('f', 'x');
  await mount.walk('f');
  mount.changes.failures.set('unlink', new NamespaceError('timeout', 'no answer'));
  await t.rejects(mount.writes.unlink(mount.place('f'), mount.context()), withErrno(Errno.ETIMEDOUT));
  t.ok(mount.notified.includes(`entry ${ROOT_NODE} f`));
  mount.notified.length = 0;
  mount.changes.failures.set('unlink', new NamespaceError('denied', 'no right'));
  await t.rejects(mount.writes.unlink(mount.place('f'), mount.context()), withErrno(Errno.EACCES));
  t.notOk(mount.notified.includes(`entry ${ROOT_NODE} f`), 'it was not done');
});

t.test('a change is not interrupted', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('f', 'x');
  const controller = new AbortController();
  const removed = mount.writes.unlink(mount.place('f'), mount.context(controller.signal));
  controller.abort();
  await removed;
  t.equal(mount.namespace.find('f'), undefined);
});

t.test('what is open goes on under the new name, and what is replaced without one', async (t) => {
  const mount = mounted(t);
  mount.namespace.mkdir('d');
  mount.namespace.put('old', 'old');
  const [file, replaced] = [await mount.create('f'), await mount.openFlags('old', 0)];
  await mount.write(file, 'new');
  const { writes } = mount;
  await writes.rename(mount.place('f'), { ...mount.place('old'), mode: 'replace' }, mount.context());
  t.equal(mount.writeBack.of(mount.namespace.find('old')?.inode ?? (0n as never))?.path, 'old');
  t.match(await mount.attributesOf(replaced.node), { links: 0, sizeBytes: 3 });
  t.equal(await mount.text(replaced), 'old');
  await mount.write(file, ' end', 3);
  await mount.close(file);
  t.equal(await mount.committed('old'), 'new end');
  t.equal(mount.namespace.find('f'), undefined);
});

t.test('a directory takes the paths of what is open below it along', async (t) => {
  const mount = mounted(t);
  mount.namespace.mkdir('d');
  const { node } = await mount.walk('d');
  const { entry } = await mount.writes.create(
    mount.place('f', node),
    { mode: 0o644, flags: O_RDWR },
    mount.context(),
  );
  const copy = mount.writeBack.of(entry.attributes.inode as never);
  t.equal(copy?.path, 'd/f');
  await mount.writes.rename(mount.place('d'), { ...mount.place('e'), mode: 'replace' }, mount.context());
  t.equal(copy?.path, 'e/f');
});

t.test('what was written before a rename is committed before it', async (t) => {
  const mount = mounted(t, { writeMode: 'back' });
  const { writes } = mount;
  const rename = (from: string, to: string): Promise<void> =>
    writes.rename(mount.place(from), { ...mount.place(to), mode: 'replace' }, mount.context());
  mount.namespace.put('f', 'seen');
  const open = await mount.openFlags('f', O_RDWR | O_TRUNC);
  await mount.write(open, 'open');
  await rename('f', 'g');
  t.equal(await mount.committed('g'), 'open', 'of a file that others see, while it is open');
  await mount.write(open, 'closed');
  await mount.close(open);
  t.equal(await mount.committed('g'), 'open');
  await rename('g', 'h');
  t.equal(await mount.committed('h'), 'closed', 'and after its close');
  const file = await mount.create('new');
  await mount.write(file, 'pending');
  await mount.close(file);
  mount.writeBack.calls.length = 0;
  await rename('new', 'newer');
  t.same(mount.writeBack.calls, [], 'a file that nobody else sees takes its bytes along');
  mount.namespace.mkdir('d');
  await rename('d', 'e');
  t.same(
    mount.writeBack.calls.filter((call) => call.startsWith('flush')),
    ['flush d'],
    'all below a directory',
  );
});

t.test('two names are exchanged at once', async (t) => {
  const mount = mounted(t);
  mount.namespace.put('a', 'of a');
  mount.namespace.put('b', 'of b');
  const a = await mount.openFlags('a', O_RDWR);
  await mount.writes.rename(mount.place('a'), { ...mount.place('b'), mode: 'exchange' }, mount.context());
  await mount.write(a, 'OF A');
  await mount.close(a);
  t.same([await mount.committed('a'), await mount.committed('b')], ['of b', 'OF A']);
  const none = { ...mount.place('none'), mode: 'exchange' } as const;
  await t.rejects(mount.writes.rename(mount.place('a'), none, mount.context()), withErrno(Errno.ENOENT));
});

t.test('refusals of the namespace reach the program', async (t) => {
  const mount = mounted(t);
  const { writes } = mount;
  mount.namespace.mkdir('d');
  mount.namespace.mkdir('d/e');
  mount.namespace.put('f', 'x');
  const to = (name: string, mode: 'replace' | 'keep' = 'replace') => ({ ...mount.place(name), mode });
  const context = mount.context();
  await t.rejects(writes.makeDirectory(mount.place('f'), 0o755, context), withErrno(Errno.EEXIST));
  await t.rejects(writes.removeDirectory(mount.place('d'), context), withErrno(Errno.ENOTEMPTY));
  await t.rejects(writes.removeDirectory(mount.place('f'), context), withErrno(Errno.ENOTDIR));
  await t.rejects(writes.unlink(mount.place('d'), context), withErrno(Errno.EISDIR));
  await t.rejects(writes.unlink(mount.place('none'), context), withErrno(Errno.ENOENT));
  await t.rejects(writes.rename(mount.place('none'), to('x'), context), withErrno(Errno.ENOENT));
  await t.rejects(writes.rename(mount.place('f'), to('d', 'keep'), context), withErrno(Errno.EEXIST));
  mount.changes.failures.set('makeDirectory', new NamespaceError('read-only', 'the export'));
  await t.rejects(writes.makeDirectory(mount.place('n'), 0o755, context), withErrno(Errno.EROFS));
});
