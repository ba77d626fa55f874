/** Changes through a real origin, over a directory and over Ceph: put, mv, rm, mkdir, seen by real mounts; and its death. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { openChanges } from '../../lib/daemon/export-changes.ts';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { PROTOCOL_VERSION } from '../../lib/rpc/protocol-version.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { withCeph } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

interface Place {
  readonly name: string;
  readonly skip: string | false;
  /** Where the objects lie; none: in a folder of the system. */
  readonly url: (t: Test) => Promise<{ readonly url?: string; readonly env?: NodeJS.ProcessEnv }>;
}

const places: readonly Place[] = [
  { name: 'a directory', skip: false, url: async () => ({}) },
  {
    name: 'Ceph',
    skip: unmet(needs.ceph),
    url: async (t) => {
      const ceph = await withCeph(t);
      return { url: ceph.url('pre fix'), env: ceph.env };
    },
  },
];
const noMounts = unmet(needs.fuse);

/** Files by path with the hash of what the index says they hold; directories with nothing. */
async function treeOf(address: string): Promise<Record<string, string>> {
  const client = createOriginClient({ address, clock: systemClock, deadlineMs: 20_000 });
  const { storeUrl } = await client.openExport({
    protocolVersion: PROTOCOL_VERSION,
    exportName: 'data',
    host: 'test',
  });
  const store = openStore(storeUrl);
  const tree: Record<string, string> = {};
  // What was renamed may get its own key between question and fetch: then the origin knows it.
  const hashOf = async (parent: bigint, name: string): Promise<string> => {
    for (let attempt = 0; ; attempt++) {
      const { inode } = await client.lookup({ exportName: 'data', parent, name });
      const { objectKey = '', entityTag = '' } = inode?.version ?? {};
      try {
        const { body } = await store.get({ key: objectKey, ifMatch: entityTag });
        const pieces: Buffer[] = [];
        for await (const piece of body) pieces.push(piece as Buffer);
        return sha256(Buffer.concat(pieces));
      } catch (error) {
        if (attempt === 20) throw error;
      }
    }
  };
  const walk = async (directory: bigint, prefix: string): Promise<void> => {
    for (let after = '', more = true; more;) {
      const page = await client.listDirectory({ exportName: 'data', directory, after, entriesMax: 1_000 });
      for (const { name, inode } of page.entries) {
        tree[prefix + name] = inode?.kind ?? '';
        if (inode?.kind === 'directory') await walk(inode.inode, `${prefix}${name}/`);
        if (inode?.version !== undefined) tree[prefix + name] = await hashOf(directory, name);
      }
      after = page.entries.at(-1)?.name ?? after;
      more = page.more;
    }
  };
  try {
    await walk(1n, '');
  } finally {
    client.close();
    await store.close();
  }
  return tree;
}

for (const place of places) {
  t.test(
    `files of any size are put, renamed and removed over ${place.name}`,
    { skip: place.skip },
    async (t) => {
      const system = await System.start(t, await place.url(t));
      const at = `${system.address}/data`;
      const prng = seededPrng(11);
      const contents = [0, 1, 100 * MIB].map((bytes) => randomBytes(bytes, prng));
      for (const content of contents) {
        const file = path.join(system.directory, `source-${content.length}`);
        fs.writeFileSync(file, content, { mode: 0o640 });
        const ran = await system.cli(['put', file, `${at}/d/${content.length}`]);
        t.same([ran.code, ran.stderr], [0, '']);
      }
      const hashes = contents.map((content) => sha256(content));
      t.same(await treeOf(system.address), {
        d: 'directory',
        'd/0': hashes[0],
        'd/1': hashes[1],
        [`d/${100 * MIB}`]: hashes[2],
      });
      t.equal((await system.cli(['mv', `${at}/d`, `${at}/e`])).code, 0);
      t.equal((await system.cli(['mv', `${at}/e/0`, `${at}/e/1`])).code, 0);
      t.equal((await system.cli(['mkdir', `${at}/e/sub`])).code, 0);
      t.match(await system.cli(['rm', `${at}/e`]), { code: 1, stderr: /not empty\nhint: / });
      const expected = {
        e: 'directory',
        'e/1': hashes[0],
        'e/sub': 'directory',
        [`e/${100 * MIB}`]: hashes[2],
      };
      t.same(await treeOf(system.address), expected);
      t.equal((await system.cli(['rm', '-r', `${at}/e`])).code, 0);
      t.same(await treeOf(system.address), {});
    },
  );

  t.test(`names that no one expects are put over ${place.name}`, { skip: place.skip }, async (t) => {
    const system = await System.start(t, await place.url(t));
    const changes = openChanges({ origin: system.address, exportName: 'data', credentials: undefined });
    t.teardown(() => changes.close());
    const names = [
      ' ',
      'é – 文',
      '%2F%',
      'a+b=c&d',
      '~',
      '-',
      'n'.repeat(255),
      '💾'.repeat(63),
      '...',
      '.%x',
    ];
    for (const name of names) {
      const content = (async function* () {
        yield Buffer.from(name);
      })();
      await changes.put(`d/${name}`, { attributes: {}, content, onSent: () => undefined });
    }
    const tree = await treeOf(system.address);
    for (const name of names) t.equal(tree[`d/${name}`], sha256(Buffer.from(name)), name);
    for (const name of ['.', '..', 'a\0b', 'n'.repeat(256)]) {
      const ran = changes.put(`d/${name}`, { attributes: {}, onSent: () => undefined });
      await t.rejects(ran, { code: 'invalid', hint: /single slashes/ });
    }
  });

  t.test(
    `two that put one name leave one of the two, whole, over ${place.name}`,
    { skip: place.skip },
    async (t) => {
      const system = await System.start(t, await place.url(t));
      const prng = seededPrng(12);
      for (let round = 0; round < 2; round++) {
        const sources = [1, 2].map((one) => {
          const content = randomBytes(3 * MIB + one, prng);
          const file = path.join(system.directory, `racer-${one}`);
          fs.writeFileSync(file, content);
          return { file, hash: sha256(content) };
        });
        const ran = await Promise.all(
          sources.map(({ file }) => system.cli(['put', file, `${system.address}/data/x/y`])),
        );
        t.same(
          ran.map(({ code }) => code),
          [0, 0],
        );
        const { 'x/y': hash = '' } = await treeOf(system.address);
        t.ok(sources.some((source) => source.hash === hash));
      }
    },
  );

  t.test(
    `origin killed in puts and renames leaves each name old or new over ${place.name}`,
    { skip: place.skip },
    async (t) => {
      const seed = Number(process.env['PERIGEE_TEST_SEED'] ?? 13);
      t.comment(`seed ${seed}`);
      const prng = seededPrng(seed);
      const where = await place.url(t);
      const system = await System.start(t, where);
      const url = where.url ?? `file://${system.objects}`;
      const port = Number(system.address.split(':')[1]);
      /** What each name may hold. */
      let possible = new Map<string, Set<string>>();
      for (let round = 0; round < 5; round++) {
        const changes = openChanges({ origin: system.address, exportName: 'data', credentials: undefined });
        const running: Promise<unknown>[] = [];
        for (let one = 0; one < 6; one++) {
          const name = `d${one % 2}/f${one}`;
          const content = randomBytes(1 + prng.below(2 * MIB), prng);
          const may = possible.get(name) ?? new Set(['']);
          may.add(sha256(content));
          possible.set(name, may);
          const stream = (async function* () {
            yield content;
          })();
          running.push(changes.put(name, { attributes: {}, content: stream, onSent: () => undefined }));
        }
        running.push(
          changes
            .rename('d0', 'moved', { noReplace: true })
            .then(() => changes.rename('moved', 'd0', { noReplace: true })),
        );
        const settled = Promise.allSettled(running);
        await new Promise((resolve) => setTimeout(resolve, prng.below(400)));
        await system.stopOrigin('SIGKILL');
        await settled;
        await changes.close();
        await system.startOrigin(url, port);
        const again = openChanges({ origin: system.address, exportName: 'data', credentials: undefined });
        const tree = await treeOf(system.address);
        if (tree['moved'] !== undefined && tree['d0'] === undefined) {
          await again.rename('moved', 'd0', { noReplace: true });
        }
        await again.close();
        const after = await treeOf(system.address);
        const next = new Map<string, Set<string>>();
        for (const [name, may] of possible) {
          const seen = after[name] ?? (after[name.replace('d0', 'moved')] || '');
          t.ok(may.has(seen), `round ${round}: ${name} is whole`);
          next.set(name, new Set([seen]));
        }
        possible = next;
      }
      // The store follows: an origin that knows nothing finds the same names.
      const index = await treeOf(system.address);
      const deadline = systemClock.nowMs() + 60_000;
      for (;;) {
        await system.stopOrigin();
        fs.renameSync(path.join(system.directory, 'origin'), path.join(system.directory, 'kept'));
        await system.startOrigin(url, port);
        const afresh = await treeOf(system.address);
        await system.stopOrigin('SIGKILL');
        fs.rmSync(path.join(system.directory, 'origin'), { recursive: true });
        fs.renameSync(path.join(system.directory, 'kept'), path.join(system.directory, 'origin'));
        await system.startOrigin(url, port);
        if (JSON.stringify(afresh) === JSON.stringify(index) || systemClock.nowMs() > deadline) {
          t.same(afresh, index);
          return;
        }
      }
    },
  );
}

// Semantics 2: "After a commit has been acknowledged anywhere, an open anywhere sees that version or a later one."
t.test('change is seen by every mount as soon as it is acknowledged', { skip: noMounts }, async (t) => {
  const system = await System.start(t);
  const [a, b] = [await system.mount({ name: 'a' }), await system.mount({ name: 'b' })];
  const mounts = [a.mountpoint, b.mountpoint];
  const changes = openChanges({ origin: system.address, exportName: 'data', credentials: undefined });
  t.teardown(() => changes.close());
  const put = (name: string, text: string): Promise<unknown> => {
    const content = (async function* () {
      yield Buffer.from(text);
    })();
    return changes.put(name, { attributes: {}, content, onSent: () => undefined });
  };
  const read = (name: string): (string | undefined)[] =>
    mounts.map((mountpoint) => {
      try {
        return fs.readFileSync(path.join(mountpoint, name), 'utf8');
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    });
  const list = (name: string): string[][] =>
    mounts.map((mountpoint) => fs.readdirSync(path.join(mountpoint, name)));
  await put('d/keep', 'k');
  for (let round = 0; round < 10; round++) {
    t.same(read('d/f'), ['ENOENT', 'ENOENT'], 'an absence that is known');
    const times = mounts.map((mountpoint) => fs.statSync(path.join(mountpoint, 'd')).mtimeMs);
    await put('d/f', `text ${round}`);
    t.same(read('d/f'), [`text ${round}`, `text ${round}`]);
    mounts.forEach((mountpoint, at) =>
      t.ok(fs.statSync(path.join(mountpoint, 'd')).mtimeMs > (times[at] ?? 0)),
    );
    t.same(list('d'), [
      ['f', 'keep'],
      ['f', 'keep'],
    ]);
    await put('d/f', 'over');
    t.same(read('d/f'), ['over', 'over']);
    await changes.rename('d', 'e', { noReplace: true });
    t.same(
      [read('d/f'), read('e/f')],
      [
        ['ENOENT', 'ENOENT'],
        ['over', 'over'],
      ],
    );
    await changes.remove('e/f', { recursive: false });
    t.same(list('e'), [['keep'], ['keep']]);
    await changes.rename('e', 'd', { noReplace: true });
    t.same(read('d/keep'), ['k', 'k']);
  }
});
