/** The conformance list on a plain local directory, the kernel driver (both ways to read) and the portable driver. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type MountProcess, noMounts, startMount } from '../fuse/mounting.ts';
import { runConformance } from './operations.ts';
import { conformanceTree } from './tree.ts';
import { writeTree } from './local-tree.ts';

t.test('conformance of a plain local directory', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'perigee-local-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  writeTree(root);
  await runConformance(t, { root, tree: conformanceTree, readOnly: false });
});

const runOn = (
  t: Parameters<typeof startMount>[0],
  mount: MountProcess,
  skip: Readonly<Record<string, string>> = {},
): Promise<void> =>
  runConformance(t, { root: mount.mountpoint, tree: conformanceTree, readOnly: true, skip });

/** Without MS_RDONLY the kernel answers access(2) from the mode alone. */
const BY_MODE = { 'access to write is refused with EROFS': 'the mount is not read-only for the kernel' };

t.test('conformance of the kernel driver, served', { skip: noMounts() }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  await runOn(t, mount);
  const state = await mount.state();
  t.match(state, { openFiles: 0, openDirectories: 0 }, 'every handle was released');
});

t.test('conformance of the kernel driver, passthrough and cached names', { skip: noMounts() }, async (t) => {
  await runOn(t, await startMount(t, { driver: 'kernel', passthrough: true, validForMs: 60_000 }));
});

t.test('conformance of the kernel driver, refusing by itself', { skip: noMounts() }, async (t) => {
  await runOn(t, await startMount(t, { driver: 'kernel', readOnly: false }), BY_MODE);
});

t.test('conformance of the portable driver', { skip: noMounts('portable') }, async (t) => {
  const mount = await startMount(t, { driver: 'portable' });
  await runOn(t, mount);
  t.match(await mount.state(), { held: 0, openFiles: 0, openDirectories: 0 }, 'everything was given back');
});

t.test(
  'conformance of the portable driver, refusing by itself',
  { skip: noMounts('portable') },
  async (t) => {
    await runOn(t, await startMount(t, { driver: 'portable', readOnly: false }), BY_MODE);
  },
);
