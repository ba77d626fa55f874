/** The conformance list on the whole product: origin, store, cache and mount, by either driver, over either store. */
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import PQueue from 'p-queue';
import t, { type Test } from 'tap';
import { runChanges } from '../conformance/changes.ts';
import { runConformance } from '../conformance/operations.ts';
import { conformanceTree, contentOf } from '../conformance/tree.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { formatPosixMetadata } from '../../lib/store/posix-metadata.ts';
import { withCeph } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';

const PUTS_MAX = 16;

/** As a tool that keeps POSIX attributes writes it: markers for directories, targets of symlinks in metadata. */
async function writeTree(url: string): Promise<void> {
  const store = openStore(url);
  const queue = new PQueue({ concurrency: PUTS_MAX });
  await queue.addAll(
    conformanceTree.map((entry) => async () => {
      const metadata = formatPosixMetadata({
        kind: entry.kind,
        mode: entry.mode,
        uid: 0,
        gid: 0,
        modifiedNs: BigInt(entry.modifiedMs) * 1_000_000n,
        ...(entry.target === undefined ? {} : { symlinkTarget: entry.target }),
      });
      const key = entry.kind === 'directory' ? `${entry.path}/` : entry.path;
      await store.put(key, entry.kind === 'file' ? contentOf(entry) : Buffer.alloc(0), { metadata });
    }),
  );
  await store.close();
}

const NO_LINKS = 'a file of an export has one name';
const NO_ACCESS_TIMES = 'times of access are kept only while a file is being written';
const NO_COUNT = 'a directory does not count the directories in it';

/** Checks of the list of changes that do not apply to the product, with the reason. */
const LEFT_OUT = {
  'files can be huge where nothing is': 'the holes of a version are sent to the object store as zeros',
  'lseek finds holes and data': 'a version has no holes',
  'mkdir makes an empty directory, counted by its parent': NO_COUNT,
  'rename moves directories with all that is in them': NO_COUNT,
  'names that come and go move the times of their directory': NO_LINKS,
  'link gives a file another name': NO_LINKS,
  'link refuses directories and names that are there': NO_LINKS,
  'rename of one file to itself does nothing': NO_LINKS,
  'names have up to 255 bytes': NO_LINKS,
  'a change shows under every name at once': NO_LINKS,
  'names are any bytes': 'names of an export are UTF-8',
  'symlink keeps any target': 'object stores keep 2 KiB beside an object',
  'times are set to the nanosecond, to now, or left': NO_ACCESS_TIMES,
  'times before 1970 can be set': NO_ACCESS_TIMES,
};

/** By several users; and nothing may be left over, nor fail for a reason of ours. */
async function conformChanges(t: Test, system: System, flags: readonly string[] = []): Promise<void> {
  const mount = await system.mount({ name: 'writable', flags: ['--allow-other', ...flags] });
  // Other users must get there.
  chmodSync(system.directory, 0o755);
  const root = path.join(mount.mountpoint, 'changes');
  mkdirSync(root);
  chmodSync(root, 0o755);
  await t.test('changes', (t) => runChanges(t, { root, skip: LEFT_OUT }));
  t.same(readdirSync(root), []);
}

async function conform(t: Test, system: System, driver: 'kernel' | 'portable'): Promise<void> {
  const mount = await system.mount({ flags: ['--driver', driver, '--read-only'] });
  // Twice: the first pass fetches, the second finds everything in the cache.
  for (const pass of ['cold', 'warm']) {
    await t.test(pass, (t) =>
      runConformance(t, { root: mount.mountpoint, tree: conformanceTree, readOnly: true }),
    );
  }
}

t.test('conformance of a mount over the file store', { skip: unmet(needs.fuse) }, async (t) => {
  const system = await System.start(t);
  await writeTree(`file://${system.objects}`);
  await conform(t, system, 'kernel');
});

t.test('changes of a mount over the file store', { skip: unmet(needs.fuse) }, async (t) => {
  await conformChanges(t, await System.start(t));
});

t.test('changes of a mount that writes back', { skip: unmet(needs.fuse) }, async (t) => {
  await conformChanges(t, await System.start(t), ['--write-mode', 'back']);
});

t.test('conformance of a portable mount', { skip: unmet(needs.fuse, needs.libfuse2) }, async (t) => {
  const system = await System.start(t);
  await writeTree(`file://${system.objects}`);
  await conform(t, system, 'portable');
});

t.test('conformance of a mount over an S3 server', { skip: unmet(needs.fuse, needs.ceph) }, async (t) => {
  const server = await withCeph(t);
  await writeTree(server.url());
  const system = await System.start(t, { url: `${server.url()}&attributes=head`, env: server.env });
  await conform(t, system, 'kernel');
  await conformChanges(t, system);
});
