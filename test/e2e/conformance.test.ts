/** The conformance list on the whole product: origin, store, cache and mount, by either driver, over either store. */
import PQueue from 'p-queue';
import t, { type Test } from 'tap';
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

async function conform(t: Test, system: System, driver: 'kernel' | 'portable'): Promise<void> {
  const mount = await system.mount({ flags: ['--driver', driver] });
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
});
