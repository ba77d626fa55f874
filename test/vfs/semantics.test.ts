/** The sentences of the semantics that the file system's read side must keep, each quoted by its test. */
import t from 'tap';
import { ROOT_NODE } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { FakeMount, withErrno } from './fake-mount.ts';

t.test('semantics 1', async (t) => {
  t.comment(
    'A name operation (lookup, stat, readdir, open, ...) takes effect at one instant between call and return, for every satellite of the export.',
  );

  t.test('stat shows a change that was made before it', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'bytes');
    mount.namespace.mkdir('dir');
    await mount.open('file');
    const stat = async (path: string) => {
      const { node } = await mount.walk(path);
      return (await mount.vfs.attributes(node, undefined, mount.context())).attributes;
    };
    for (const mode of [0o700, 0o750, 0o755]) {
      mount.namespace.change('file', { mode });
      mount.namespace.change('dir', { mode });
      t.equal((await stat('file')).mode, 0o100000 | mode);
      t.equal((await stat('dir')).mode, 0o040000 | mode);
    }
    mount.namespace.put('file', 'a longer version');
    t.equal((await stat('file')).sizeBytes, 16);
  });

  t.test('the directory where a walk begins is asked for each time', async (t) => {
    const mount = new FakeMount();
    mount.namespace.mkdir('dir');
    const { node } = await mount.walk('dir');
    for (const mode of [0o700, 0o755]) {
      mount.namespace.change('dir', { mode });
      const { attributes } = await mount.vfs.attributes(node, undefined, mount.context());
      t.equal(attributes.mode, 0o040000 | mode);
    }
  });

  t.test('a file whose name the kernel may remember is asked for each time', async (t) => {
    const mount = new FakeMount();
    mount.namespace.validForMs = 1000;
    mount.namespace.put('file', 'bytes');
    const { node } = await mount.walk('file');
    mount.namespace.change('file', { mode: 0o600 });
    const { attributes, validForMs } = await mount.vfs.attributes(node, undefined, mount.context());
    t.equal(attributes.mode, 0o100600);
    t.equal(validForMs, 900, 'less a margin for a reply that is written late');
    mount.namespace.remove('file');
    const gone = await mount.vfs.attributes(node, undefined, mount.context());
    t.equal(gone.attributes.links, 0, 'it has no name any more');
  });

  t.test('a listing of some time ago does not hide what a lookup found since', async (t) => {
    const mount = new FakeMount();
    mount.namespace.mkdir('dir');
    mount.namespace.put('dir/file', 'bytes');
    const { node } = await mount.walk('dir');
    const { handle } = await mount.vfs.openDirectory(node, mount.context());
    const listed: (() => unknown)[] = [];
    await mount.vfs.readDirectoryPlus(handle, 0n, (record) => listed.push(record.entry) > 0, mount.context());
    mount.namespace.change('dir/file', { mode: 0o600 });
    const file = await mount.walk('dir/file');
    for (const entry of listed) entry();
    const { attributes } = await mount.vfs.attributes(file.node, undefined, mount.context());
    t.equal(attributes.mode, 0o100600);
  });
});

t.test('semantics 2', async (t) => {
  t.comment(
    'After a commit has been acknowledged anywhere, an open anywhere sees that version or a later one.',
  );
  for (const wholeOnOpenBytes of [0, 4096]) {
    const mount = new FakeMount({ wholeOnOpenBytes });
    for (let round = 1; round <= 5; round++) {
      mount.namespace.put('file', `version ${round}`);
      const file = await mount.open('file');
      t.equal(await mount.read(file, 0, 100), `version ${round}`);
    }
    t.equal(mount.vfs.stat().openFiles, 5);
    mount.vfs.close();
    t.equal(mount.cache.openHandles, 0);
  }
});

t.test('semantics 3', async (t) => {
  t.comment(
    'All reads through one handle see one version, from open to close, whatever others commit meanwhile.',
  );

  t.test('a served handle stays with its version', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 });
    mount.namespace.put('file', 'old old old');
    const old = await mount.open('file');
    t.equal(await mount.read(old, 0, 4), 'old ');
    mount.namespace.put('file', 'NEW NEW');
    const fresh = await mount.open('file');
    t.not(fresh.node, old.node, 'another version is another node');
    t.equal(await mount.read(old, 4, 100), 'old old');
    t.equal(await mount.read(fresh, 0, 100), 'NEW NEW');
  });

  t.test('a passthrough handle stays with its blob', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'old');
    const old = await mount.open('file');
    mount.namespace.put('file', 'NEW');
    const fresh = await mount.open('file');
    t.ok(old.fd !== undefined && fresh.fd !== undefined);
    t.not(fresh.fd, old.fd);
    t.not(fresh.node, old.node);
  });

  t.test('a file replaced between lookup and open opens in the version that was looked up', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'old');
    const { node } = await mount.walk('file');
    mount.namespace.put('file', 'NEW');
    const file = await mount.openNode(node);
    t.equal(await mount.read(file, 0, 10), 'old');
  });

  t.test('fstat shows the version that the handle reads', async (t) => {
    for (const validForMs of [0, 1000]) {
      const mount = new FakeMount();
      mount.namespace.validForMs = validForMs;
      const before = mount.namespace.put('file', 'old');
      const { node, handle } = await mount.open('file');
      const after = mount.namespace.put('file', 'much longer');
      const shown = await mount.vfs.attributes(node, handle, mount.context());
      t.match(shown.attributes, { sizeBytes: 3, modifiedNs: before.modifiedNs });
      t.equal(shown.attributes.inode, after.inode, 'st_ino is the inode');
      t.equal(shown.validForMs, 0);
    }
  });

  t.test('a removed file stays readable', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0 });
    mount.namespace.put('file', 'bytes');
    const file = await mount.open('file');
    mount.namespace.remove('file');
    t.equal(await mount.read(file, 0, 10), 'bytes');
    const { attributes } = await mount.vfs.attributes(file.node, file.handle, mount.context());
    t.equal(attributes.sizeBytes, 5);
    await t.rejects(mount.open('file'), withErrno(Errno.ENOENT));
  });

  t.test('an open handle is told its size while the origin is away', async (t) => {
    for (const validForMs of [0, 1000]) {
      const mount = new FakeMount();
      mount.namespace.validForMs = validForMs;
      mount.namespace.put('file', 'bytes');
      const file = await mount.open('file');
      mount.namespace.failures.set('attributes', new NamespaceError('unavailable', 'no origin'));
      mount.namespace.failures.set('lookup', new NamespaceError('unavailable', 'no origin'));
      mount.namespace.validForMs = 0;
      const { attributes } = await mount.vfs.attributes(file.node, file.handle, mount.context());
      t.equal(attributes.sizeBytes, 5);
      await t.rejects(mount.lookup(ROOT_NODE, 'file'), withErrno(Errno.ETIMEDOUT), 'names are not');
    }
  });
});

t.test('semantics 4', async (t) => {
  t.comment('A reader never receives bytes that belong to no committed version of the file, whatever fails.');

  t.test('a version that is gone is ESTALE for the handle that needs its bytes', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 });
    const { source } = mount.namespace.put('file', 'old old old');
    const file = await mount.open('file');
    t.equal(await mount.read(file, 0, 4), 'old ');
    if (source) mount.namespace.lose(source.version);
    await t.rejects(mount.read(file, 4, 4), withErrno(Errno.ESTALE));
    t.match(mount.namespace.stale, [{ version: source?.version }], 'and the origin was told');
  });

  t.test('an open of a version that is gone finds the one that took its place', async (t) => {
    const mount = new FakeMount();
    const { source } = mount.namespace.put('file', 'old');
    if (source) mount.namespace.lose(source.version);
    mount.namespace.onStale = () => mount.namespace.put('file', 'NEW');
    const file = await mount.open('file');
    t.equal(await mount.read(file, 0, 10), 'NEW');
    t.equal(mount.namespace.calls.reportStale, 1);
  });

  t.test('a version whose object was moved is read on from its new place', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 });
    const { source } = mount.namespace.put('file', 'one version');
    const file = await mount.open('file');
    t.equal(await mount.read(file, 0, 4), 'one ');
    if (source === undefined) throw new Error('a file has a version');
    mount.namespace.lose(source.version);
    mount.namespace.onStale = () => mount.namespace.move('file', 'new-place', 'one version');
    t.equal(await mount.read(file, 4, 7), 'version');
    t.equal(mount.cache.keyOf(source.version), 'new-place');
    t.equal(mount.namespace.calls.reportStale, 1);
  });

  t.test('readers that find a version gone at the same time report it once', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 });
    const { source } = mount.namespace.put('file', 'old old old');
    const file = await mount.open('file');
    if (source) mount.namespace.lose(source.version);
    const reads = [0, 4, 8].map((offset) => mount.read(file, offset, 4));
    for (const read of reads) await t.rejects(read, withErrno(Errno.ESTALE));
    t.equal(mount.namespace.calls.reportStale, 1);
  });

  t.test('a read beyond the end is short, and never more than the version', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0 });
    mount.namespace.put('file', 'bytes');
    const file = await mount.open('file');
    t.equal(await mount.read(file, 3, 100), 'es');
    t.equal(await mount.read(file, 5, 100), '');
    t.equal(await mount.read(file, 1_000_000, 100), '');
  });

  t.test('fewer bytes than asked for are an error, not zeros', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0 });
    const { source } = mount.namespace.put('file', 'bytes');
    mount.namespace.change('file', {
      sizeBytes: 10,
      ...(source && { source: { ...source, sizeBytes: 10 } }),
    });
    const file = await mount.open('file');
    await t.rejects(mount.read(file, 0, 10), withErrno(Errno.EIO));
  });

  t.test('corruption that does not go away is EIO', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'bytes');
    mount.cache.fillFailure = new TierError('corrupt', 'the checksum does not match');
    await t.rejects(mount.open('file'), withErrno(Errno.EIO));
    t.equal(mount.cache.openHandles, 0, 'a failed open holds nothing');
    t.equal(mount.vfs.stat().openFiles, 0);
  });
});
