/** Prefetching on real mounts: each trigger and each kind of what, seen by what the tier has without anybody reading it. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { KIB, MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import type { JobInfo, OutcomeBytes } from '../../lib/prefetch/prefetch.ts';
import { needs, unmet } from '../support/requirements.ts';
import { type MountedSystem, type Ran, run, System } from '../support/system.ts';
import { randomBytes } from '../support/tree.ts';

const skip = unmet(needs.fuse);
const POLL_MS = 20;
const POLLS_MAX = 1_000;
const FILE_BYTES = 300 * KIB;

interface World {
  readonly system: System;
  readonly apply: (text: string) => Promise<void>;
}

/** Objects of `FILE_BYTES`, or as many as named. */
async function prepare(t: Test, files: Readonly<Record<string, number>> | readonly string[]): Promise<World> {
  const system = await System.start(t);
  const prng = seededPrng(5);
  const sizes = Array.isArray(files)
    ? (files as readonly string[]).map((name) => [name, FILE_BYTES] as const)
    : Object.entries(files as Readonly<Record<string, number>>);
  for (const [name, bytes] of sizes) {
    const file = path.join(system.objects, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, randomBytes(bytes, prng));
  }
  const apply = async (text: string): Promise<void> => {
    const file = path.join(system.directory, 'policies.yaml');
    fs.writeFileSync(file, `apiVersion: perigee/v1\npolicies:\n${text}`);
    const ran = await system.cli(['policy', 'apply', '-f', file, '--origin', system.address]);
    t.equal(ran.code, 0, ran.stderr);
  };
  return { system, apply };
}

async function attribute(file: string, name: string): Promise<string> {
  const { stdout, stderr } = await run('getfattr', ['--only-values', '-n', `user.perigee.${name}`, file]);
  return stdout === '' ? stderr : stdout;
}

async function until(t: Test, what: string, ask: () => Promise<boolean>): Promise<void> {
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    if (await ask()) return void t.pass(what);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  t.fail(what);
}

async function cachedBytes(mount: MountedSystem, name: string): Promise<number> {
  return Number(await attribute(path.join(mount.mountpoint, name), 'cached'));
}

/** Waits until these are in the tier in whole. */
async function untilThere(t: Test, mount: MountedSystem, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { size } = fs.statSync(path.join(mount.mountpoint, name));
    await until(t, `${name} is there`, async () => (await cachedBytes(mount, name)) === size);
  }
}

async function inForce(t: Test, mount: MountedSystem, name: string, policy: string): Promise<void> {
  const file = path.join(mount.mountpoint, name);
  await until(t, `${policy} is in force`, async () => (await attribute(file, 'policy')).includes(policy));
}

/** A program opens the file and reads a little of it. */
async function look(mount: MountedSystem, name: string, offset = 0): Promise<void> {
  const handle = await fs.promises.open(path.join(mount.mountpoint, name));
  await handle.read(Buffer.alloc(10), 0, 10, offset);
  await handle.close();
}

async function fetchedBytes(mount: MountedSystem): Promise<number> {
  return (await mount.status()).cache.fetchedBytes!;
}

interface Listed {
  readonly jobs: readonly JobInfo[];
  readonly outcomes: Readonly<Record<string, OutcomeBytes>>;
}

async function list(system: System, mount: MountedSystem): Promise<Listed> {
  const ran = await system.cli(['prefetch', 'list', mount.mountpoint, '--json']);
  return JSON.parse(ran.stdout) as Listed;
}

const numbered = (count: number, folder = 'train'): string[] =>
  Array.from({ length: count }, (_, at) => `${folder}/f-${String(at).padStart(3, '0')}.bin`);

t.test('perigee prefetch brings what is named, once, and says how far it is', { skip }, async (t) => {
  const { system } = await prepare(t, [...numbered(8), 'train/deep/er/x.bin', 'other/y.bin']);
  const mount = await system.mount();
  const inside = (name: string): string => path.join(mount.mountpoint, name);
  const ran = await system.cli(['prefetch', inside('train'), inside('other/y.bin'), '--wait']);
  t.same([ran.code, ran.stdout], [0, '10 of 10 files, 2.93 MiB of 2.93 MiB\n'], ran.stderr);
  await untilThere(t, mount, ['train/f-000.bin', 'train/deep/er/x.bin', 'other/y.bin']);
  t.equal(await fetchedBytes(mount), 10 * FILE_BYTES);

  const again = await system.cli(['prefetch', inside('train'), '--wait', '--json']);
  t.match(JSON.parse(again.stdout), { state: 'done', filesThere: 9, bytesFetched: 0 });
  t.equal(await fetchedBytes(mount), 10 * FILE_BYTES, 'nothing is fetched twice');

  fs.readFileSync(inside('train/f-001.bin'));
  t.match((await list(system, mount)).outcomes, {
    '-': { fetched: 10 * FILE_BYTES, used: FILE_BYTES, wasted: 0, late: 0 },
  });

  const missing = await system.cli(['prefetch', inside('train'), inside('nothing'), '--wait']);
  t.equal(missing.code, 3, 'partly');
  t.match(missing.stdout, /1 missing/);
  const { code, stderr } = await system.cli(['prefetch', 'cancel', '77']);
  t.equal(code, 1);
  t.match(stderr, /there is no prefetch job 77[^]*hint: perigee prefetch list/);
});

t.test('an open fetches siblings, or what its number says comes next', { skip }, async (t) => {
  const { system, apply } = await prepare(t, [
    ...numbered(12, 'sib'),
    ...numbered(40, 'seq'),
    ...['ape', 'bear', 'cat', 'dog', 'eel', 'fox', 'gnu', 'hen'].map((name) => `zoo/${name}`),
  ]);
  const mount = await system.mount();
  await apply(
    '  - { name: sib, match: { prefix: sib/ }, prefetch: { on: [open], what: siblings, ahead: 3 } }\n' +
      '  - { name: seq, match: { prefix: seq/ }, prefetch: { on: [open], what: sequence, ahead: 4 } }\n' +
      '  - { name: zoo, match: { prefix: zoo/ }, prefetch: { on: [open], what: sequence, ahead: 2 } }\n',
  );
  await inForce(t, mount, 'sib/f-000.bin', 'sib');
  await look(mount, 'sib/f-004.bin');
  await untilThere(t, mount, ['sib/f-005.bin', 'sib/f-006.bin', 'sib/f-007.bin']);
  t.equal(await cachedBytes(mount, 'sib/f-008.bin'), 0, 'no further');
  t.equal(await cachedBytes(mount, 'sib/f-003.bin'), 0, 'and not before');

  for (const number of ['003', '006', '009']) await look(mount, `seq/f-${number}.bin`);
  await untilThere(t, mount, ['seq/f-012.bin', 'seq/f-015.bin', 'seq/f-018.bin', 'seq/f-021.bin']);
  t.equal(await cachedBytes(mount, 'seq/f-010.bin'), 0, 'what lies between is left out');
  t.equal(await cachedBytes(mount, 'seq/f-024.bin'), 0);

  for (const name of ['bear', 'cat', 'dog']) {
    await look(mount, `zoo/${name}`);
    // The next name is found beside the program, which here is faster than any.
    await new Promise((resolve) => setTimeout(resolve, 5 * POLL_MS));
  }
  await untilThere(t, mount, ['zoo/eel', 'zoo/fox']);
  t.equal(await cachedBytes(mount, 'zoo/ape'), 0);
  t.equal(await cachedBytes(mount, 'zoo/hen'), 0);
});

t.test('reading any part of a file fetches the rest, and an open fetches the file', { skip }, async (t) => {
  const big = 24 * MIB;
  const { system, apply } = await prepare(t, {
    'rest/a': big,
    'file/a': big,
    'tree/a/b/c': 1_000,
    'tree/a/d': big,
  });
  const mount = await system.mount();
  await apply(
    '  - { name: rest, match: { prefix: rest/ }, prefetch: { on: [open], what: rest-of-file } }\n' +
      '  - { name: file, match: { prefix: file/ }, prefetch: { on: [open], what: file } }\n' +
      '  - { name: tree, match: { prefix: tree/ }, prefetch: { on: [open], what: subtree, depth: 2 } }\n',
  );
  await inForce(t, mount, 'tree/a/d', 'tree');
  (await fs.promises.open(path.join(mount.mountpoint, 'rest/a'))).close();
  await look(mount, 'file/a');
  await untilThere(t, mount, ['file/a']);
  t.equal(await cachedBytes(mount, 'rest/a'), 0, 'it was opened and not read');
  await look(mount, 'rest/a', 13 * MIB);
  await untilThere(t, mount, ['rest/a']);
  await look(mount, 'tree/a/d');
  await untilThere(t, mount, ['tree/a/d', 'tree/a/b/c']);
  t.equal(await fetchedBytes(mount), 3 * big + 1_000, 'each byte once');
  const { file } = (await list(system, mount)).outcomes;
  t.ok(file!.fetched > 0);
  t.equal(file!.used, file!.fetched, 'a program had it open');
});

t.test('a listing fetches what is below to its depth', { skip }, async (t) => {
  const { system, apply } = await prepare(t, [
    'top/a',
    'top/one/b',
    'top/one/two/c',
    'top/one/two/three/d',
    'top/no.txt',
  ]);
  const mount = await system.mount();
  await apply(
    '  - { name: below, match: { prefix: top/, glob: "**/[a-z]" }, prefetch: { on: [list], what: subtree, depth: 3 } }\n',
  );
  await inForce(t, mount, 'top/a', 'below');
  fs.readdirSync(path.join(mount.mountpoint, 'top'));
  await untilThere(t, mount, ['top/a', 'top/one/b', 'top/one/two/c']);
  t.equal(await cachedBytes(mount, 'top/one/two/three/d'), 0);
  t.equal(await cachedBytes(mount, 'top/no.txt'), 0, 'no policy is about it');
});

t.test(
  'a policy that is applied warms its files, and another does so with each mount',
  { skip },
  async (t) => {
    const { system, apply } = await prepare(t, [...numbered(5, 'one'), ...numbered(5, 'two')]);
    const mount = await system.mount();
    const policies =
      '  - { name: now, match: { prefix: one/f-00 }, prefetch: { on: [apply] } }\n' +
      '  - { name: start, match: { prefix: two/ }, prefetch: { on: [mount] } }\n';
    await apply(policies);
    await untilThere(t, mount, numbered(5, 'one'));
    t.equal(await cachedBytes(mount, 'two/f-000.bin'), 0, 'not before the next mount');
    t.match((await list(system, mount)).jobs, [
      { what: 'apply of now', policy: 'now', state: 'done', filesThere: 5 },
    ]);
    t.equal((await mount.unmount()).code, 0);
    fs.rmSync(path.join(system.directory, 'cache-a'), { recursive: true });
    const next = await system.mount();
    await untilThere(t, next, numbered(5, 'two'));

    const other = await system.mount({ name: 'b' });
    await untilThere(t, other, numbered(5, 'one'));
    t.equal((await other.unmount()).code, 0);
    const back = await system.mount({ name: 'b' });
    await until(t, 'a job of the mount', async () => (await list(system, back)).jobs[0]?.state === 'done');
    t.same(
      (await list(system, back)).jobs.map(({ what }) => what),
      ['mount of start'],
      'a policy that was applied before is not applied again by a restart',
    );
  },
);

t.test('what is published anywhere is fetched wherever a policy says so', { skip }, async (t) => {
  const { system, apply } = await prepare(t, ['ckpt/old.pt', 'other/x']);
  const mount = await system.mount();
  await apply('  - { name: ckpt, match: { prefix: ckpt/, glob: "**/*.pt" }, prefetch: { on: [publish] } }\n');
  await inForce(t, mount, 'ckpt/old.pt', 'ckpt');
  await until(
    t,
    'the directory is leased',
    async () =>
      (await attribute(path.join(mount.mountpoint, 'ckpt'), 'lease')).startsWith('directory') ||
      (await attribute(path.join(mount.mountpoint, 'ckpt'), 'lease')).startsWith('subtree'),
  );
  const body = path.join(system.directory, 'body');
  fs.writeFileSync(body, randomBytes(3 * MIB, seededPrng(9)));
  const put = async (name: string): Promise<Ran> => {
    const ran = await system.cli(['put', body, `${system.address}/data/${name}`]);
    t.equal(ran.code, 0, ran.stderr);
    return ran;
  };
  t.equal((await system.cli(['mkdir', `${system.address}/data/ckpt/step-2`])).code, 0);
  for (const name of [
    'ckpt/step-1.pt',
    'ckpt/old.pt',
    'ckpt/step-2/rank-0.pt',
    'ckpt/notes.txt',
    'other/y',
  ]) {
    await put(name);
  }
  await untilThere(t, mount, ['ckpt/step-1.pt', 'ckpt/old.pt', 'ckpt/step-2/rank-0.pt']);
  t.equal(await fetchedBytes(mount), 9 * MIB, 'and nothing else');
});

t.test('a window is kept ahead of who reads by a manifest, and moves with it', { skip }, async (t) => {
  const names = numbered(30);
  const { system } = await prepare(t, names);
  const mount = await system.mount();
  const order = [...names].reverse();
  const manifest = path.join(system.directory, 'manifest.txt');
  fs.writeFileSync(
    manifest,
    ['# an epoch', ...order.slice(0, 10), 'train/gone.bin', ...order.slice(10)].join('\n'),
  );
  const ran = await system.cli(['prefetch', '--manifest', manifest, '--ahead', '4']);
  t.match(ran.stdout, /prefetch job 1: manifest/);
  await untilThere(t, mount, order.slice(0, 4));
  await until(t, 'it waits', async () => (await list(system, mount)).jobs[0]?.state === 'waiting');
  t.equal(await fetchedBytes(mount), 4 * FILE_BYTES);
  await look(mount, order[0]!);
  await look(mount, order[1]!);
  await untilThere(t, mount, order.slice(0, 6));
  t.equal(await cachedBytes(mount, order[6]!), 0);
  for (const name of order.slice(2)) await look(mount, name);
  await until(t, 'the end', async () => (await list(system, mount)).jobs[0]?.state === 'done');
  t.match((await list(system, mount)).jobs, [{ filesThere: 30, pathsMissing: 1 }]);
  t.equal(await fetchedBytes(mount), 30 * FILE_BYTES);

  const wrong = await system.cli([
    'prefetch',
    '--manifest',
    path.join(system.directory, 'none'),
    mount.mountpoint,
  ]);
  t.equal(wrong.code, 1);
  t.match(wrong.stderr, /manifest .* cannot be read/);
});

t.test(
  'a job that was under way goes on after a kill, and ends when it is cancelled',
  { skip },
  async (t) => {
    const { system } = await prepare(t, { 'big/a': 64 * MIB, 'big/b': 64 * MIB });
    const first = await system.mount();
    const slowly = ['--bandwidth', '1MiB/s'];
    t.equal((await system.cli(['prefetch', path.join(first.mountpoint, 'big'), ...slowly])).code, 0);
    await until(t, 'something is there', async () => (await fetchedBytes(first)) > 0);
    await first.kill();
    const second = await system.mount();
    await until(t, 'it goes on', async () => (await fetchedBytes(second)) > 0);
    t.match((await list(system, second)).jobs, [{ id: '1', state: 'running' }]);
    t.equal((await system.cli(['prefetch', 'cancel', '1'])).code, 0);
    t.match((await list(system, second)).jobs, [{ id: '1', state: 'cancelled' }]);
    t.ok((await fetchedBytes(second)) < 128 * MIB, 'before its end');
    await second.kill();
    const third = await system.mount();
    t.same((await list(system, third)).jobs, [], 'and it does not come back');
  },
);

t.test(
  'files that fit no more are told, and what waits for its reader is not evicted',
  { skip },
  async (t) => {
    const { system } = await prepare(t, Object.fromEntries(numbered(20).map((name) => [name, 4 * MIB])));
    const mount = await system.mount({ cacheSize: '64MiB' });
    const ran = await system.cli(['prefetch', path.join(mount.mountpoint, 'train'), '--wait']);
    t.equal(ran.code, 3);
    t.match(ran.stdout, /^12 of 20 files.*no room for 8/, 'three quarters of the cache');
    for (const name of numbered(20).slice(12)) fs.readFileSync(path.join(mount.mountpoint, name));
    await untilThere(t, mount, numbered(12));
  },
);
