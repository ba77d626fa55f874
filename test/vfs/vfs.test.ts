import t from 'tap';
import { ROOT_NODE, type NodeId } from '../../lib/base/brand.ts';
import { MIB } from '../../lib/base/limits.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import type { Answer } from '../../lib/fuse/operations.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { FakeMount, withErrno } from './fake-mount.ts';
import { ManualClock } from './manual-clock.ts';

t.test('vfs', async (t) => {
  t.test('lookup shows what stat shows', async (t) => {
    const mount = new FakeMount();
    const { inode } = mount.namespace.put('file', 'bytes');
    mount.namespace.change('file', { mode: 0o640, uid: 3, gid: 4, modifiedNs: 5n, changedNs: 6n });
    const entry = await mount.lookup(ROOT_NODE, 'file');
    t.match(entry, { entryValidForMs: 0, validForMs: 0 }, 'nothing may be remembered');
    t.match(entry.attributes, {
      inode,
      sizeBytes: 5,
      mode: 0o100640,
      uid: 3,
      gid: 4,
      modifiedNs: 5n,
      changedNs: 6n,
      links: 1,
      blockBytes: MIB,
    });
    const { attributes } = await mount.vfs.attributes(entry.node, undefined, mount.context());
    t.same(attributes, entry.attributes);
    const root = await mount.vfs.attributes(ROOT_NODE, undefined, mount.context());
    t.match(root.attributes, { inode: 1n, mode: 0o040755, links: 2 });
  });

  t.test('a name that is not there is no node', async (t) => {
    const mount = new FakeMount();
    t.match(await mount.lookup(ROOT_NODE, 'none'), { node: 0n, entryValidForMs: 0 });
    const invalid = await mount.vfs.lookup(ROOT_NODE, Uint8Array.of(0xff, 0xfe), mount.context());
    t.equal(invalid.node, 0n, 'a name that is not UTF-8 exists nowhere');
    t.equal(mount.namespace.calls.lookup, 1);
  });

  t.test('names keep every character', async (t) => {
    const mount = new FakeMount();
    for (const name of ['\ufeffbom', 'é', 'e\u0301', '日本語', 'a b', '\n', '🚀', 'x'.repeat(255)]) {
      const { inode } = mount.namespace.put(name, name);
      t.equal((await mount.lookup(ROOT_NODE, name)).attributes.inode, inode, JSON.stringify(name));
    }
  });

  t.test('a symlink is read', async (t) => {
    const mount = new FakeMount();
    mount.namespace.symlink('link', '../ziel/ü');
    const { node, attributes } = await mount.lookup(ROOT_NODE, 'link');
    t.match(attributes, { mode: 0o120777, sizeBytes: 10 });
    t.equal(Buffer.from(await mount.vfs.readLink(node, mount.context())).toString(), '../ziel/ü');
    await t.rejects(mount.vfs.readLink(ROOT_NODE, mount.context()), withErrno(Errno.EINVAL));
  });

  t.test('access follows the permission bits', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'x');
    mount.namespace.change('file', { mode: 0o641, uid: 10, gid: 20 });
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    const as = (uid: number, gid: number) => ({ ...mount.context(), uid, gid });
    const [R, W, X] = [4, 2, 1];
    await mount.vfs.access(node, R, as(10, 0));
    await t.rejects(
      mount.vfs.access(node, W, as(10, 0)),
      withErrno(Errno.EROFS),
      'its owner may, the mount not',
    );
    await t.rejects(mount.vfs.access(node, X, as(10, 0)), withErrno(Errno.EACCES));
    await mount.vfs.access(node, R, as(11, 20));
    await t.rejects(mount.vfs.access(node, X, as(11, 20)), withErrno(Errno.EACCES));
    await mount.vfs.access(node, X, as(11, 21));
    await t.rejects(mount.vfs.access(node, R, as(11, 21)), withErrno(Errno.EACCES));
    await mount.vfs.access(node, R | X, as(0, 0));
    mount.namespace.change('file', { mode: 0o600 });
    await mount.lookup(ROOT_NODE, 'file');
    await t.rejects(mount.vfs.access(node, X, as(0, 0)), withErrno(Errno.EACCES), 'nobody may execute it');
    await mount.vfs.access(node, 0, as(11, 21));
  });

  t.test('everything that writes is EROFS', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'x');
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    const [O_WRONLY, O_RDWR, O_TRUNC] = [1, 2, 0o1000];
    for (const flags of [O_WRONLY, O_RDWR, O_TRUNC, O_RDWR | O_TRUNC]) {
      await t.rejects(async () => mount.vfs.open(node, flags, mount.context()), withErrno(Errno.EROFS));
    }
    for (const operation of ['SETATTR', 'CREATE', 'UNLINK', 'SETXATTR']) {
      await t.rejects(mount.vfs.refuseChange(operation, node, mount.context()), withErrno(Errno.EROFS));
    }
    t.equal(mount.vfs.stat().openFiles, 0);
  });

  t.test('statistics are those of the export', async (t) => {
    const mount = new FakeMount();
    t.match(await mount.vfs.statistics(mount.context()), {
      blocks: 1n << 30n,
      blocksFree: (1n << 30n) - (1n << 20n),
      blockBytes: MIB,
      fragmentBytes: MIB,
      files: 1_000_000n,
      filesFree: 999_000n,
      nameBytesMax: 255,
    });
    mount.namespace.usage = async () => ({ bytesTotal: 1n, bytesUsed: 9n, inodesTotal: 1n, inodesUsed: 9n });
    t.match(await mount.vfs.statistics(mount.context()), { blocksFree: 0n, filesFree: 0n });
  });

  t.test('extended attributes show how a file is held', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 4 });
    const { source } = mount.namespace.put('file', 'x'.repeat(3000));
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    const get = async (name: string, of: NodeId = node): Promise<string> =>
      Buffer.from(await mount.vfs.getExtendedAttribute(of, name, mount.context())).toString();
    t.equal(await get('user.perigee.version'), source?.version);
    t.equal(await get('user.perigee.cached'), '0');
    t.equal(await get('user.perigee.mode'), 'served');
    t.equal(await get('user.perigee.lease'), 'none');
    t.equal(await get('user.perigee.policy'), 'default');
    const file = await mount.open('file');
    await mount.read(file, 0, 10);
    t.equal(await get('user.perigee.cached'), '1024');
    if (source) mount.cache.complete(source.version);
    t.equal(await get('user.perigee.mode'), 'served', 'of the open handles');
    mount.release(file);
    t.equal(await get('user.perigee.mode'), 'passthrough', 'of the next open');
    t.equal(mount.cache.openHandles, 0);
    for (const name of ['user.other', 'security.selinux', 'constructor', '__proto__']) {
      await t.rejects(get(name), withErrno(Errno.ENODATA), name);
    }
    for (const each of [node, ROOT_NODE]) {
      const listed = await mount.vfs.listExtendedAttributes(each, mount.context());
      t.same(listed, [], 'they are read by name, so that no program copies them');
    }
    await t.rejects(get('user.perigee.version', ROOT_NODE), withErrno(Errno.ENODATA));
    mount.namespace.symlink('link', 'file');
    const link = await mount.lookup(ROOT_NODE, 'link');
    t.same(await mount.vfs.listExtendedAttributes(link.node, mount.context()), []);
  });

  t.test('every wait has a deadline', async (t) => {
    const clock = new ManualClock();
    const mount = new FakeMount({ clock });
    mount.namespace.put('file', 'x');
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    const never = new Promise<void>(() => undefined);
    for (const call of ['lookup', 'attributes', 'list', 'usage'] as const) {
      mount.namespace.gates.set(call, never);
    }
    mount.cache.holdFetches();
    const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    const waits: Answer<unknown>[] = [
      mount.lookup(ROOT_NODE, 'file'),
      mount.vfs.attributes(ROOT_NODE, undefined, mount.context()),
      mount.vfs.access(ROOT_NODE, 4, mount.context()),
      mount.vfs.statistics(mount.context()),
      mount.readSome(handle, 0n, 10),
      mount.openNode(node),
    ];
    await new Promise(setImmediate);
    clock.advance(120_000);
    for (const wait of waits) await t.rejects(async () => wait, withErrno(Errno.ETIMEDOUT));
    t.equal(mount.cache.openHandles, 0);
    mount.vfs.close();
    t.equal(clock.waiting, 0);
  });

  t.test('every wait ends when the program is interrupted', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'x');
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    const never = new Promise<void>(() => undefined);
    for (const call of ['lookup', 'attributes', 'list', 'usage'] as const) {
      mount.namespace.gates.set(call, never);
    }
    mount.cache.holdFetches();
    const interrupt = new AbortController();
    const context = mount.context(interrupt.signal);
    const { handle } = await mount.vfs.openDirectory(ROOT_NODE, context);
    const waits: Answer<unknown>[] = [
      mount.vfs.lookup(ROOT_NODE, Buffer.from('file'), context),
      mount.vfs.attributes(ROOT_NODE, undefined, context),
      mount.vfs.statistics(context),
      mount.vfs.readDirectory(handle, 0n, () => true, context),
      mount.vfs.open(node, 0, context),
    ];
    await new Promise(setImmediate);
    interrupt.abort();
    for (const wait of waits) await t.rejects(async () => wait, withErrno(Errno.EINTR));
  });

  t.test('errors of lower layers reach programs as errnos', async (t) => {
    const mount = new FakeMount();
    for (const [code, errno] of [
      ['denied', Errno.EACCES],
      ['unavailable', Errno.ETIMEDOUT],
      ['protocol', Errno.EIO],
    ] as const) {
      mount.namespace.failures.set('lookup', new NamespaceError(code, code));
      await t.rejects(mount.lookup(ROOT_NODE, 'file'), withErrno(errno), code);
    }
  });

  t.test('handles and nodes that do not exist are refused', async (t) => {
    const mount = new FakeMount();
    const nothing = 77n as NodeId;
    await t.rejects(
      async () => mount.vfs.attributes(nothing, undefined, mount.context()),
      withErrno(Errno.ESTALE),
    );
    await t.rejects(mount.vfs.read(77n, { offset: 0, length: 1 }, mount.context()), withErrno(Errno.EBADF));
    mount.vfs.release(77n);
    mount.vfs.releaseDirectory(77n);
    mount.vfs.forget(nothing, 1n);
    const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    await t.rejects(
      mount.vfs.read(handle, { offset: 0, length: 1 }, mount.context()),
      withErrno(Errno.EBADF),
      'a directory is no file',
    );
  });

  t.test('an inode that has no name any more shows no links', async (t) => {
    const mount = new FakeMount();
    mount.namespace.mkdir('dir');
    const { node } = await mount.lookup(ROOT_NODE, 'dir');
    mount.namespace.remove('dir');
    const { attributes } = await mount.vfs.attributes(node, undefined, mount.context());
    t.equal(attributes.links, 0);
    await t.rejects(mount.lookup(node, 'child'), withErrno(Errno.ENOENT));
  });

  t.test('close gives back everything', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('small', 'x');
    mount.namespace.put('large', 'x'.repeat(10_000));
    await mount.open('small');
    const large = await mount.open('large');
    await mount.read(large, 0, 10);
    await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    t.equal(mount.cache.openHandles, 2);
    mount.vfs.close();
    mount.vfs.close();
    t.equal(mount.cache.openHandles, 0);
    t.equal(mount.vfs.stat().openFiles, 0);
  });
});
