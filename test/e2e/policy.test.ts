/** Policies on real mounts: applied, in force everywhere without a remount, explained, gone back to, over restarts. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { MIB } from '../../lib/base/limits.ts';
import { needs, unmet } from '../support/requirements.ts';
import { type Ran, run, System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

const skip = unmet(needs.fuse);
const POLL_MS = 20;
/** Far beyond what a policy needs: a test that waits for longer has failed. */
const POLLS_MAX = 500;

const FILE_BYTES = 12 * MIB;

async function attribute(file: string, name: string): Promise<string> {
  const { stdout, stderr } = await run('getfattr', ['--only-values', '-n', `user.perigee.${name}`, file]);
  return stdout === '' ? stderr : stdout;
}

/** Returns how long it took. */
async function until(t: Test, wanted: string, ask: () => Promise<string>): Promise<void> {
  const beganMs = performance.now();
  let now = '';
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    now = await ask();
    if (now === wanted) return t.comment(`${wanted}: after ${Math.round(performance.now() - beganMs)} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  t.equal(now, wanted);
}

async function readBeginning(file: string): Promise<void> {
  const handle = await fs.promises.open(file);
  await handle.read(Buffer.alloc(4096), 0, 4096, 0);
  await handle.close();
}

interface Prepared {
  readonly system: System;
  readonly bodies: readonly Buffer[];
  readonly policy: (...words: string[]) => Promise<Ran>;
  readonly apply: (text: string) => Promise<void>;
}

async function prepare(t: Test, originFlags: readonly string[] = []): Promise<Prepared> {
  const system = await System.start(t, { originFlags: async () => originFlags });
  const prng = seededPrng(21);
  fs.mkdirSync(path.join(system.objects, 'train'));
  const bodies = [0, 1, 2, 3].map((number) => {
    const body = randomBytes(FILE_BYTES, prng);
    fs.writeFileSync(path.join(system.objects, 'train', `${number}.bin`), body);
    return Buffer.from(body);
  });
  const policy = (...words: string[]) => system.cli(['policy', ...words, '--origin', system.address]);
  return {
    system,
    bodies,
    policy,
    async apply(text) {
      const file = path.join(system.directory, 'policies.yaml');
      fs.writeFileSync(file, `apiVersion: perigee/v1\npolicies:\n${text}`);
      const ran = await policy('apply', '-f', file);
      t.equal(ran.code, 0, ran.stderr);
    },
  };
}

const WHOLE =
  '  - { name: whole, match: { prefix: train/, glob: "*.bin" }, cache: { wholeOnOpen: 64MiB } }\n';

t.test(
  'a policy is in force on a mount at once, explained, and gone after a rollback',
  { skip },
  async (t) => {
    const { system, bodies, policy, apply } = await prepare(t);
    const { mountpoint } = await system.mount();
    const file = (number: number): string => path.join(mountpoint, 'train', `${number}.bin`);
    t.equal(await attribute(file(0), 'policy'), 'default');
    t.equal(await attribute(file(0), 'mode'), 'served', 'larger than what is fetched whole without a policy');

    await apply(WHOLE);
    await until(t, 'whole', () => attribute(file(1), 'policy'));
    await readBeginning(file(1));
    t.equal(await attribute(file(1), 'cached'), String(FILE_BYTES), 'fetched whole by the open');
    t.equal(await attribute(file(1), 'mode'), 'passthrough');
    t.equal(sha256(await fs.promises.readFile(file(1))), sha256(bodies[1]!));

    const explained = await system.cli(['policy', 'explain', file(1), '--json']);
    t.match(JSON.parse(explained.stdout), {
      kind: 'file',
      sizeBytes: FILE_BYTES,
      cachedBytes: FILE_BYTES,
      documentVersion: 1,
      policies: [{ name: 'whole', outcome: 'decides' }],
    });
    const directory = await system.cli(['policy', 'explain', path.join(mountpoint, 'train'), '--json']);
    t.match(JSON.parse(directory.stdout), {
      kind: 'directory',
      path: 'train/',
      policies: [{ outcome: 'other-glob' }],
    });

    t.equal((await policy('rollback', '0')).code, 0);
    await until(t, 'default', () => attribute(file(2), 'policy'));
    t.equal(await attribute(file(2), 'mode'), 'served');
    t.match((await policy('history')).stdout, /2 .* rollback to 0 .*\n1 .* apply /);
  },
);

t.test('a policy for labelled hosts is in force on those alone', { skip }, async (t) => {
  const { system, apply } = await prepare(t);
  const one = await system.mount({ name: 'one', flags: ['--label', 'pool=h200'] });
  const other = await system.mount({ name: 'other', flags: ['--label', 'pool=h100'] });
  await apply(
    '  - { name: fast, match: { hosts: { labels: { pool: h200 } } }, cache: { rank: 1 } }\n' +
      '  - { name: all, match: {}, cache: { rank: 0 } }\n',
  );
  await until(t, 'fast', () => attribute(path.join(one.mountpoint, 'train/0.bin'), 'policy'));
  await until(t, 'all', () => attribute(path.join(other.mountpoint, 'train/0.bin'), 'policy'));
});

t.test('policies say what the tier lets in and keeps', { skip }, async (t) => {
  const { system, bodies, apply } = await prepare(t);
  const { mountpoint } = await system.mount({ flags: ['--whole-on-open', '64MiB'] });
  const file = (number: number): string => path.join(mountpoint, 'train', `${number}.bin`);
  await readBeginning(file(0));
  await apply(
    '  - { name: out, match: { prefix: train/1 }, cache: { admit: never } }\n' +
      '  - { name: pinned, match: { prefix: train/0 }, cache: { pin: true } }\n',
  );
  await until(t, 'out', () => attribute(file(1), 'policy'));
  t.equal(sha256(await fs.promises.readFile(file(1))), sha256(bodies[1]!), 'read past the tier');
  t.equal(await attribute(file(1), 'cached'), '0');
  await readBeginning(file(2));
  const evicted = await system.cli(['cache', 'evict', mountpoint]);
  t.equal(evicted.code, 3, evicted.stdout);
  t.equal(await attribute(file(0), 'cached'), String(FILE_BYTES), 'what was there before is pinned too');
  t.equal(await attribute(file(2), 'cached'), '0');
});

t.test(
  'policies outlive the origin, on it and on satellites, and new ones arrive after it came back',
  { skip },
  async (t) => {
    const { system, apply, policy } = await prepare(t);
    const { mountpoint } = await system.mount();
    const file = path.join(mountpoint, 'train/0.bin');
    await apply(WHOLE);
    await until(t, 'whole', () => attribute(file, 'policy'));
    await system.stopOrigin('SIGKILL');
    await system.startOrigin(`file://${system.objects}`, Number(system.address.split(':')[1]));
    t.match((await policy('list')).stdout, /whole/);
    await apply(WHOLE.replace('whole', 'later'));
    await until(t, 'later', () => attribute(file, 'policy'));
  },
);

t.test('a plan tells what a document is about and changes nothing', { skip }, async (t) => {
  const { system, policy } = await prepare(t);
  await system.mount();
  const document = path.join(system.directory, 'plan.yaml');
  fs.writeFileSync(document, `apiVersion: perigee/v1\npolicies:\n${WHOLE}`);
  const { code, stdout, stderr } = await policy('plan', '-f', document);
  t.equal(code, 0, stderr);
  t.match(stdout, /whole +new +4 +48 MiB +4/);
  t.match(stdout, /mnt-a: whole is 4\.7% of the cache of 1 GiB/);
  t.match((await policy('list')).stdout, /no policies \(version 0\)/);
});

t.test('names that a policy lets be used without the origin are, and others are not', { skip }, async (t) => {
  const { system, bodies, apply } = await prepare(t, ['--lease-term', '2s']);
  const mount = await system.mount({ flags: ['--partition-wait', '1s'] });
  const { mountpoint } = mount;
  const state = async (): Promise<string> =>
    ((await mount.status()) as unknown as { readonly leases: { readonly state: string } }).leases.state;
  const file = (number: number): string => path.join(mountpoint, 'train', `${number}.bin`);
  await apply(
    '  - { name: fixed, match: { prefix: train/0 }, consistency: { immutable: true } }\n' +
      '  - { name: stale, match: { prefix: train/1 }, consistency: { onPartition: stale } }\n',
  );
  await until(t, 'stale', () => attribute(file(1), 'policy'));
  for (const number of [0, 1, 2]) await fs.promises.readFile(file(number));
  await system.stopOrigin('SIGKILL');
  await until(t, 'lost', state);
  t.equal(sha256(await fs.promises.readFile(file(0))), sha256(bodies[0]!));
  t.equal(sha256(await fs.promises.readFile(file(1))), sha256(bodies[1]!));
  await t.rejects(fs.promises.readFile(file(2)), { code: 'ETIMEDOUT' });

  const changed = randomBytes(FILE_BYTES, seededPrng(22));
  fs.writeFileSync(path.join(system.objects, 'train', '1.bin'), changed);
  await system.startOrigin(`file://${system.objects}`, Number(system.address.split(':')[1]));
  await until(t, 'live', state);
  t.equal((await system.cli(['origin', 'refresh', `${system.address}/data/train`])).code, 0);
  t.equal(
    sha256(await fs.promises.readFile(file(1))),
    sha256(changed),
    'stale only while the origin was away',
  );
});
