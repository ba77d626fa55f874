/** The kernel's rule: open handles of one node are all served, or all in passthrough over one backing file. */
import fc from 'fast-check';
import t from 'tap';
import { Errno } from '../../lib/fuse/errno.ts';
import { CacheError } from '../../cache/block-cache.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { FakeMount, withErrno, type OpenFd } from './fake-mount.ts';

const FILES = ['small', 'large', 'other'];
const MODE_ACTIONS = [
  'open',
  'walk',
  'release',
  'commit',
  'complete',
  'drop',
  'hold',
  'releaseFetches',
  'bypass',
  'read',
  'forget',
  'interrupt',
  'unverified',
] as const;

t.test('i/o mode', async (t) => {
  t.test('is never mixed on a node, under any interleaving', async () => {
    const action = fc.record({
      kind: fc.constantFrom(...MODE_ACTIONS),
      file: fc.constantFrom(...FILES),
      pick: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 80, size: 'max' }), async (actions) => {
        const mount = new FakeMount({ wholeOnOpenBytes: 2000, blockBytes: 500 });
        const content = new Map<bigint, string>();
        const commit = (file: string, round: number): void => {
          mount.namespace.put(file, `${file} ${round} `.repeat(file === 'large' ? 400 : 20));
        };
        FILES.forEach((file) => commit(file, 0));
        const pending = new Set<Promise<void>>();
        const interrupts: AbortController[] = [];
        const open = async (file: string): Promise<void> => {
          const controller = new AbortController();
          interrupts.push(controller);
          try {
            const fd = await mount.open(file, controller.signal);
            content.set(fd.handle, await mount.read(fd, 0, 8));
          } catch (error) {
            if ((error as { errno?: number }).errno !== Errno.EINTR) throw error;
          }
        };
        for (const [round, { kind, file, pick }] of actions.entries()) {
          const fds = mount.openFds();
          const fd: OpenFd | undefined = fds[pick % Math.max(1, fds.length)];
          const version = (await mount.namespace.lookup(1n as never, file))?.source?.version;
          if (kind === 'open') {
            const opening = open(file);
            pending.add(opening);
            opening.then(
              () => pending.delete(opening),
              () => undefined,
            );
          } else if (kind === 'walk') await mount.walk(file);
          else if (kind === 'release' && fd) mount.release(fd);
          else if (kind === 'commit') commit(file, round + 1);
          else if (kind === 'complete' && version) mount.cache.complete(version);
          else if (kind === 'drop' && version) mount.cache.drop(version);
          else if (kind === 'hold') mount.cache.holdFetches();
          else if (kind === 'releaseFetches') mount.cache.releaseFetches();
          else if (kind === 'bypass') mount.cache.bypass = !mount.cache.bypass;
          else if (kind === 'unverified') mount.cache.unverified = !mount.cache.unverified;
          else if (kind === 'interrupt') interrupts[pick % Math.max(1, interrupts.length)]?.abort();
          else if (kind === 'forget') for (const node of [...mount.held.keys()]) mount.forget(node);
          else if (kind === 'read' && fd && pick % 2 === 0) {
            const first = content.get(fd.handle);
            const reading = mount.read(fd, 0, 8).then((bytes) => {
              if (first !== undefined && bytes !== first) throw new Error(`${bytes} after ${first}`);
            });
            pending.add(reading);
            // Released meanwhile.
            reading.catch(() => undefined).finally(() => pending.delete(reading));
          }
          await Promise.resolve();
        }
        mount.cache.releaseFetches();
        await Promise.allSettled(pending).then((all) => {
          for (const one of all) {
            if (one.status === 'rejected' && one.reason?.errno === undefined) throw one.reason;
            if (one.status === 'rejected' && one.reason.errno === Errno.EIO) throw one.reason;
          }
        });
        for (const fd of mount.openFds()) mount.release(fd);
        for (const node of [...mount.held.keys()]) mount.forget(node);
        if (mount.vfs.stat().openFiles !== 0) throw new Error('handles left');
        if (mount.vfs.stat().nodes !== 1) throw new Error(`${mount.vfs.stat().nodes} nodes left`);
        mount.vfs.close();
        await new Promise(setImmediate);
        if (mount.cache.openHandles !== 0) throw new Error('cache handles left');
      }),
      { numRuns: 200 },
    );
  });

  t.test('a small file is fetched whole inside open, and handed to the kernel', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    const file = await mount.open('file');
    t.not(file.fd, undefined);
    t.match(mount.cache.fills, [{ offset: 0, length: 5, priority: 'demand' }]);
    t.match(mount.vfs.stat(), { passthroughOpens: 1, servedOpens: 0 });
    const again = await mount.open('file');
    t.equal(again.node, file.node);
    t.equal(again.fd, file.fd, 'the opens of a node share its backing file');
    t.equal(mount.cache.fills.length, 1);
  });

  t.test('opens that race on an idle node agree', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    mount.cache.holdFetches();
    const opens = [mount.open('file'), mount.open('file'), mount.open('file')];
    await new Promise(setImmediate);
    mount.cache.releaseFetches();
    const files = await Promise.all(opens);
    t.equal(new Set(files.map(({ fd }) => fd)).size, 1);
    t.not(files[0]?.fd, undefined);
    t.equal(mount.cache.openHandles, 1, 'they share the hold on the cache');
  });

  t.test('a large file is served, and in passthrough at the next open after it is complete', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 4 });
    const { source } = mount.namespace.put('file', 'large enough');
    const served = await mount.open('file');
    t.equal(served.fd, undefined);
    if (source) mount.cache.complete(source.version);
    const stuck = await mount.openNode(served.node);
    t.equal(stuck.fd, undefined, 'an open of the served node stays served');
    const passthrough = await mount.open('file');
    t.not(passthrough.node, served.node);
    t.not(passthrough.fd, undefined);
    const { attributes: a } = await mount.vfs.attributes(served.node, undefined, mount.context());
    const { attributes: b } = await mount.vfs.attributes(passthrough.node, undefined, mount.context());
    t.equal(a.inode, b.inode, 'both have one st_ino');
    t.equal(await mount.read(served, 0, 5), 'large');
  });

  t.test('a served node that was closed may change its mode', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 4 });
    const { source } = mount.namespace.put('file', 'large enough');
    const served = await mount.open('file');
    mount.release(served);
    if (source) mount.cache.complete(source.version);
    const file = await mount.open('file');
    t.equal(file.node, served.node);
    t.not(file.fd, undefined);
  });

  t.test('a blob found bad while it is in passthrough is not given to later opens', async (t) => {
    const mount = new FakeMount();
    const { source } = mount.namespace.put('file', 'small');
    const old = await mount.open('file');
    if (source) mount.cache.drop(source.version);
    const stuck = await mount.openNode(old.node);
    t.equal(stuck.fd, old.fd, 'the kernel takes no second backing file for a node');
    const file = await mount.open('file');
    t.not(file.node, old.node);
    t.not(file.fd, old.fd);
    t.not(file.fd, undefined);
  });

  t.test('a complete blob that is not verified yet is served', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 4 });
    const { source } = mount.namespace.put('file', 'large enough');
    const first = await mount.open('file');
    if (source) mount.cache.complete(source.version);
    mount.cache.unverified = true;
    const second = await mount.open('file');
    t.equal(second.node, first.node);
    t.equal(second.fd, undefined);
    mount.cache.unverified = false;
    t.not((await mount.open('file')).fd, undefined);
  });

  t.test('trouble of the cache leaves opens served', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    mount.cache.bypass = true;
    const declined = await mount.open('file');
    t.equal(declined.fd, undefined);
    t.equal(await mount.read(declined, 0, 5), 'small');
    mount.release(declined);
    mount.cache.bypass = false;
    mount.cache.fillFailure = new CacheError('no-space', 'full');
    t.equal((await mount.open('file')).fd, undefined);
  });

  t.test('without passthrough all opens are served, and none waits for a fetch', async (t) => {
    const mount = new FakeMount({ passthrough: false });
    mount.namespace.put('file', 'small');
    const file = await mount.open('file');
    t.equal(file.fd, undefined);
    t.same(mount.cache.fills, []);
    t.equal(await mount.read(file, 0, 5), 'small');
    t.equal(mount.vfs.stat().servedBytes, 5);
    const again = await mount.open('file');
    t.equal(again.node, file.node, 'even when the blob is complete');
  });

  t.test('an interrupted open is EINTR and holds nothing', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    mount.cache.holdFetches();
    const interrupt = new AbortController();
    const { node } = await mount.walk('file');
    const opening = mount.openNode(node, interrupt.signal);
    const other = mount.openNode(node);
    await new Promise(setImmediate);
    interrupt.abort();
    await t.rejects(opening, withErrno(Errno.EINTR));
    mount.cache.releaseFetches();
    t.not((await other).fd, undefined, 'another that waits beside it goes on');
    t.equal(mount.cache.openHandles, 1);
  });

  t.test('an open that is answered after the mount is gone holds nothing', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    mount.cache.holdFetches();
    const opening = mount.open('file');
    await new Promise(setImmediate);
    mount.vfs.disconnected();
    mount.cache.releaseFetches();
    await t.rejects(opening, withErrno(Errno.ENODEV));
    t.equal(mount.cache.openHandles, 0);
  });

  t.test('a failing namespace fails the lookup, not the open', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'small');
    const { node } = await mount.walk('file');
    mount.namespace.failures.set('lookup', new NamespaceError('timeout', 'late'));
    t.not((await mount.openNode(node)).fd, undefined);
    await t.rejects(mount.open('file'), withErrno(Errno.ETIMEDOUT));
  });
});
