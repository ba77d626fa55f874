/** The conformance list on a plain local directory, the kernel driver (both ways to read) and the portable driver. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type MountProcess, noMounts, startMount } from '../fuse/mounting.ts';
import { runChanges } from './changes.ts';
import { runConformance } from './operations.ts';
import { conformanceTree } from './tree.ts';
import { writeTree } from './local-tree.ts';

/** Changes are made by several users. */
const noRoot = process.getuid?.() === 0 ? false : 'needs root';

const ONE_TIME =
  'the library hands on the time of access for both, in milliseconds, and only if both are set';
const NOBODY = 'the library does not tell who asks';

/** Checks of the list of changes that do not apply, with the reason. */
const LEFT_OUT = {
  local: {
    'mknod refuses what is no regular file': 'a local file system can have pipes and devices',
  },
  kernel: {},
  portable: {
    'writing moves the times of change, reading does not': ONE_TIME,
    'times set through an open file that was written stay': ONE_TIME,
    'names that come and go move the times of their directory': ONE_TIME,
    'times are set to the nanosecond, to now, or left': ONE_TIME,
    'times before 1970 can be set': 'the library knows no times before 1970',
    'fallocate makes room, with and without a new size': 'the library has no fallocate',
    'fallocate punches holes and writes zeros': 'the library has no fallocate',
    'lseek finds holes and data': 'libfuse 2 has no lseek',
    'link gives a file another name': 'libfuse numbers files by path',
    'rename may be told to replace nothing': 'libfuse 2 has no flags of rename',
    'rename may exchange two names': 'libfuse 2 has no flags of rename',
    'names are any bytes': 'the library has names in UTF-8 only',
    'writing takes set-ID bits off, unless root writes': NOBODY,
    'what is made belongs to who made it': NOBODY,
    'in a sticky directory only owners remove and rename': NOBODY,
  },
} as const;

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

/** A directory that every user can get to. */
function directoryForChanges(parent: string): string {
  const root = join(parent, 'changes');
  mkdirSync(root);
  chmodSync(root, 0o755);
  return root;
}

t.test('changes of a plain local directory', { skip: noRoot }, async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'perigee-local-'));
  chmodSync(parent, 0o755);
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  await runChanges(t, { root: directoryForChanges(parent), skip: LEFT_OUT.local });
});

for (const [what, settings] of [
  ['served', {}],
  ['served, cached names', { validForMs: 60_000 }],
  ['passthrough', { passthrough: true }],
  ['passthrough, cached names', { passthrough: true, validForMs: 60_000 }],
] as const)
  t.test(`changes by the kernel driver, ${what}`, { skip: noRoot || noMounts() }, async (t) => {
    const mount = await startMount(t, { driver: 'kernel', writable: true, allowOther: true, ...settings });
    const { nodes } = await mount.state();
    await runChanges(t, { root: directoryForChanges(mount.mountpoint), skip: LEFT_OUT.kernel });
    const after = await mount.idleState();
    t.match(after, { openFiles: 0, openDirectories: 0, locks: 0 }, 'every handle and lock was given back');
    t.match(await mount.tell({ do: 'metrics' }), /^(?!.*errno="EIO").*$/s, 'nothing failed unexpectedly');
    t.ok(after.nodes < nodes + 400, `${after.nodes - nodes} nodes are left, which the kernel may still hold`);
  });

t.test('changes by the portable driver', { skip: noRoot || noMounts('portable') }, async (t) => {
  const mount = await startMount(t, { driver: 'portable', writable: true, allowOther: true });
  await runChanges(t, { root: directoryForChanges(mount.mountpoint), skip: LEFT_OUT.portable });
  t.match(await mount.idleState(), { held: 0, openFiles: 0 }, 'everything was given back');
});
