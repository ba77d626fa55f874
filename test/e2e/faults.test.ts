/** A reader that verifies checksums, over a real S3 server behind a proxy that misbehaves. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { KIB, MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { type FaultRule, startStoreProxy } from '../faults/store-proxy.ts';
import { withCeph } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { run, System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

const SEED = 11;
const SMALL_FILES = 60;

/** Bodies that are damaged on the way can be told only where the object's MD5 covers one GET; see lib/tiers/ranged-fetch.ts. */
const storms: Readonly<Record<string, readonly FaultRule[]>> = {
  'delays and a slow line': [
    { fault: { kind: 'delay', ms: 5, jitterMs: 40 }, probability: 0.5 },
    { fault: { kind: 'bandwidth', bytesPerSecond: 60 * MIB }, probability: 0.2 },
  ],
  'resets and truncated bodies': [
    { fault: { kind: 'reset', afterBytes: 3_000 }, methods: ['GET'], probability: 0.15 },
    { fault: { kind: 'truncate', afterBytes: 5_000 }, methods: ['GET'], probability: 0.15 },
    { fault: { kind: 'reset' }, probability: 0.1 },
  ],
  'storms of 500, 503 and 429': [
    { fault: { kind: 'status', status: 503, code: 'SlowDown' }, probability: 0.2 },
    { fault: { kind: 'status', status: 500, code: 'InternalError' }, probability: 0.1 },
    {
      fault: { kind: 'status', status: 429, code: 'TooManyRequests', headers: { 'retry-after': '0' } },
      probability: 0.1,
    },
  ],
  'bytes flipped in small files': [
    { fault: { kind: 'corrupt', atByte: 700 }, methods: ['GET'], path: /small-/, probability: 0.3 },
  ],
  'answers of another version': [
    {
      fault: { kind: 'headers', set: { etag: '"ffffffffffffffffffffffffffffffff"' } },
      methods: ['GET'],
      path: /small-|large/,
      probability: 0.1,
    },
  ],
};

t.test(
  'through a misbehaving store every byte that is read equals the source',
  { skip: unmet(needs.fuse, needs.ceph) },
  async (t) => {
    t.comment(`seed ${SEED}`);
    const server = await withCeph(t);
    const prng = seededPrng(SEED);
    const store = openStore(server.url());
    const sums = new Map<string, string>();
    for (let index = 0; index < SMALL_FILES; index++) {
      const body = randomBytes(1_000 + prng.below(200 * KIB), prng);
      sums.set(`small-${index}`, sha256(body));
      await store.put(`small-${index}`, body);
    }
    const large = randomBytes(48 * MIB, prng);
    sums.set('large', sha256(large));
    await store.put('large', large);
    await store.close();

    const proxy = await startStoreProxy({ target: server.endpoint, seed: SEED });
    t.teardown(() => proxy.close());
    const system = await System.start(t, { url: server.url('', proxy.endpoint), env: server.env });

    for (const [name, faults] of Object.entries(storms)) {
      await t.test(name, async (t) => {
        proxy.setFaults([]);
        const mount = await system.mount();
        const before = { ...proxy.counters.faults };
        proxy.setFaults(faults);
        const refused: string[] = [];
        for (const [file, sum] of sums) {
          try {
            const body = await fs.promises.readFile(path.join(mount.mountpoint, file));
            if (sha256(body) !== sum) t.fail(`${file} was served with wrong bytes`);
          } catch (error) {
            refused.push(`${file}: ${(error as NodeJS.ErrnoException).errno}`);
          }
        }
        t.comment(`${JSON.stringify(proxy.counters.faults)}, refused: ${refused.length}`);
        for (const { fault } of faults) {
          t.ok(
            (proxy.counters.faults[fault.kind] ?? 0) > (before[fault.kind] ?? 0),
            `${fault.kind} happened`,
          );
        }
        t.ok(
          refused.length < sums.size / 4,
          `most files were read all the same: ${refused.join(', ').slice(0, 300)}`,
        );
        proxy.setFaults([]);
        for (const [file, sum] of sums) {
          const body = await fs.promises.readFile(path.join(mount.mountpoint, file));
          if (sha256(body) !== sum) t.fail(`${file} has wrong bytes after the storm`);
        }
        t.equal((await mount.unmount()).code, 0);
        fs.rmSync(path.join(system.directory, 'cache-a'), { recursive: true });
      });
    }

    await t.test('a store that refuses or never answers gives an errno within a bound', async (t) => {
      proxy.setFaults([]);
      const mount = await system.mount();
      const file = path.join(mount.mountpoint, 'small-1');
      await fs.promises.stat(file);
      proxy.setFaults([{ fault: { kind: 'status', status: 403, code: 'AccessDenied' } }]);
      await t.rejects(fs.promises.readFile(file), { code: 'EACCES' }, '403 is EACCES');
      proxy.setFaults([{ fault: { kind: 'status', status: 404, code: 'NoSuchKey' }, methods: ['GET'] }]);
      await t.rejects(fs.promises.readFile(file), 'a 404 that HEAD does not confirm is an error');
      proxy.setFaults([]);
      t.equal(
        sha256(await fs.promises.readFile(file)),
        sums.get('small-1'),
        'and goes on when it is well again',
      );
      const doctor = await system.cli(['doctor', '--origin', system.address, '--export', 'data']);
      t.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
    });
  },
);

t.test(
  'a tree in a real bucket is read whole by the tools of users',
  { skip: unmet(needs.fuse, needs.ceph) },
  async (t) => {
    const server = await withCeph(t);
    const store = openStore(server.url());
    const prng = seededPrng(SEED);
    const sums: string[] = [];
    for (const key of [
      'a',
      'a b/ü c',
      'a-b/c',
      'deep/er/and/deeper/file',
      'empty',
      `long/${'n'.repeat(255)}`,
    ]) {
      const body = randomBytes(key === 'empty' ? 0 : 1 + prng.below(9 * MIB), prng);
      sums.push(`${sha256(body)}  ${key}`);
      await store.put(key, body);
    }
    for (const key of ['weird//empty-segment', 'weird/../dots', `weird/${'n'.repeat(256)}`, 'a/beside'])
      await store.put(key, Buffer.from('x'));
    await store.close();
    const system = await System.start(t, { url: server.url(), env: server.env });
    const { mountpoint } = await system.mount();
    const list = path.join(system.directory, 'sums');
    fs.writeFileSync(list, sums.filter((line) => !line.endsWith('  a')).join('\n') + '\n');
    const checked = await run('sha256sum', ['--check', '--quiet', list], { cwd: mountpoint });
    t.equal(checked.code, 0, checked.stdout + checked.stderr);
    t.strictSame(
      await fs.promises.readdir(path.join(mountpoint, 'weird')),
      [],
      'keys that cannot be names are not shown',
    );
    const doctor = await system.cli(['doctor', '--origin', system.address, '--export', 'data', '--json']);
    for (const key of ['weird//empty-segment', 'weird/../dots', 'nnnn'])
      t.match(doctor.stdout, key, `doctor reports ${key}`);
  },
);
