/**
 * Writing on the whole product: two mounts of one export, each with programs of its own, and what one has closed (or in
 * write-back, what has converged) read on the other. The patterns are those of frameworks that write checkpoints.
 */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { needs, unmet } from '../support/requirements.ts';
import { type MountedSystem, run, System } from '../support/system.ts';

const skip = unmet(needs.fuse);
const MIB = 1024 * 1024;
const { O_CREAT, O_EXCL, O_RDWR } = fs.constants;

interface World {
  readonly system: System;
  readonly here: string;
  readonly elsewhere: string;
  readonly mount: MountedSystem;
  /** Until others see what was closed here. */
  converged(): Promise<void>;
}

async function worldOf(t: Test, mode: 'through' | 'back'): Promise<World> {
  const system = await System.start(t);
  const flags = ['--write-mode', mode];
  const [mount, other] = [await system.mount({ flags }), await system.mount({ name: 'b', flags })];
  return {
    system,
    mount,
    here: mount.mountpoint,
    elsewhere: other.mountpoint,
    async converged() {
      if (mode === 'through') return;
      const ran = await system.cli(['flush', mount.mountpoint]);
      t.equal(ran.code, 0, ran.stderr);
    },
  };
}

function pattern(length: number, seed: number): Buffer {
  const prng = seededPrng(seed);
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => prng.below(2 ** 32));
  return Buffer.from(words.buffer).subarray(0, length);
}

function withFile<T>(name: string, flags: string | number, use: (fd: number) => T): T {
  const fd = fs.openSync(name, flags, 0o600);
  try {
    return use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Each writes below a directory of its own, and answers with what must be read elsewhere. */
const patterns: Readonly<Record<string, (directory: string) => Readonly<Record<string, Buffer>>>> = {
  'small and large files, whole': (directory) => {
    const files = { empty: 0, small: 10, inline: 128 * 1024, block: 4 * MIB, odd: 21 * MIB + 3 };
    return Object.fromEntries(
      Object.entries(files).map(([name, length], index) => {
        const bytes = pattern(length, index);
        fs.writeFileSync(path.join(directory, name), bytes);
        return [name, bytes];
      }),
    );
  },
  'overwrite, append, truncate': (directory) => {
    const file = path.join(directory, 'f');
    fs.writeFileSync(file, pattern(100_000, 1));
    fs.writeFileSync(file, 'shorter');
    fs.appendFileSync(file, ', and more');
    fs.truncateSync(file, 12);
    withFile(file, 'r+', (fd) => fs.writeSync(fd, 'S', 0));
    return { f: Buffer.from('Shorter, and') };
  },
  'torch.save: sequential, a small end, close': (directory) => {
    const bytes = pattern(3 * MIB + 517, 2);
    withFile(path.join(directory, 'model.pt'), 'w', (fd) => {
      for (let at = 0; at < bytes.length; at += MIB)
        fs.writeSync(fd, bytes, at, Math.min(MIB, bytes.length - at));
    });
    return { 'model.pt': bytes };
  },
  'safetensors: full size first, renamed before it is closed': (directory) => {
    const bytes = pattern(2 * MIB + 1, 3);
    const name = path.join(directory, 'model.safetensors');
    fs.writeFileSync(name, 'an older one');
    const draft = path.join(directory, '.tmpAbC123');
    withFile(draft, O_RDWR | O_CREAT | O_EXCL, (fd) => {
      fs.ftruncateSync(fd, bytes.length);
      fs.writeSync(fd, bytes);
      fs.renameSync(draft, name);
    });
    fs.chmodSync(name, 0o644);
    return { 'model.safetensors': bytes };
  },
  'distributed checkpoint: parts, then metadata that is synced empty and renamed': (directory) => {
    const parts = Object.fromEntries([0, 1].map((rank) => [`__${rank}_0.distcp`, pattern(MIB, rank)]));
    for (const [name, bytes] of Object.entries(parts)) {
      withFile(path.join(directory, name), 'w', (fd) => {
        fs.writeSync(fd, bytes);
        fs.fsyncSync(fd);
      });
    }
    const [draft, name] = ['.metadata.tmp', '.metadata'].map((each) => path.join(directory, each));
    const metadata = pattern(5_000, 9);
    for (let round = 0; round < 2; round++) {
      withFile(draft ?? '', 'w', (fd) => {
        fs.fsyncSync(fd);
        fs.writeSync(fd, metadata);
      });
      if (round > 0) fs.unlinkSync(name ?? '');
      fs.renameSync(draft ?? '', name ?? '');
    }
    return { ...parts, '.metadata': metadata };
  },
  'npz: a header that is written again at the end': (directory) => {
    const bytes = pattern(5 * MIB, 4);
    withFile(path.join(directory, 'a.npz'), 'w', (fd) => {
      fs.writeSync(fd, bytes, 0, bytes.length, 0);
      bytes.fill('h', 10, 65);
      fs.writeSync(fd, bytes, 10, 55, 10);
    });
    return { 'a.npz': bytes };
  },
  'a log that is appended to': (directory) => {
    const file = path.join(directory, 'events.tfevents');
    for (let line = 0; line < 5; line++) fs.appendFileSync(file, `event ${line}\n`);
    return { 'events.tfevents': Buffer.from('event 0\nevent 1\nevent 2\nevent 3\nevent 4\n') };
  },
  'a directory of files that a rename commits': (directory) => {
    const draft = path.join(directory, 'step_10.orbax-tmp');
    fs.mkdirSync(path.join(draft, 'params'), { recursive: true });
    const bytes = pattern(MIB, 5);
    for (const name of ['params/0', 'params/1', 'meta']) fs.writeFileSync(path.join(draft, name), bytes);
    fs.renameSync(draft, path.join(directory, 'step_10'));
    return { 'step_10/params/0': bytes, 'step_10/params/1': bytes, 'step_10/meta': bytes };
  },
};

for (const mode of ['through', 'back'] as const) {
  t.test(`what frameworks write on one host is read on the other: write ${mode}`, { skip }, async (t) => {
    const world = await worldOf(t, mode);
    for (const [index, [what, write]] of Object.entries(patterns).entries()) {
      const name = `pattern-${index}`;
      const directory = path.join(world.here, name);
      fs.mkdirSync(directory);
      fs.readdirSync(world.elsewhere);
      const expected = write(directory);
      for (const [file, bytes] of Object.entries(expected)) {
        t.ok(fs.readFileSync(path.join(directory, file)).equals(bytes), `${what}: ${file}, here`);
      }
      await world.converged();
      for (const [file, bytes] of Object.entries(expected)) {
        const there = path.join(world.elsewhere, name, file);
        t.equal(fs.statSync(there).size, bytes.length, `${what}: size of ${file}`);
        t.ok(fs.readFileSync(there).equals(bytes), `${what}: ${file}, elsewhere`);
        t.ok(fs.readFileSync(path.join(directory, file)).equals(bytes), `${what}: ${file}, here again`);
      }
      const left = fs.readdirSync(path.join(world.elsewhere, name));
      t.same(left.toSorted(), fs.readdirSync(directory).toSorted(), `${what}: nothing else is left`);
    }
    const { code, stdout } = await world.system.cli(['status', world.here, '--json']);
    t.equal(code, 0);
    t.match(JSON.parse(stdout), { readOnly: false, writeBack: { dirtyFiles: 0, conflicts: [] } });
  });
}

t.test(
  'a file is shown elsewhere whole or not at all, and readers keep their version',
  { skip },
  async (t) => {
    const { here, elsewhere } = await worldOf(t, 'through');
    const [mine, theirs] = [here, elsewhere].map((root) => path.join(root, 'f'));
    const fd = fs.openSync(mine ?? '', 'w');
    fs.writeSync(fd, 'half');
    t.notOk(fs.existsSync(theirs ?? ''), 'before its first version');
    fs.writeSync(fd, ' and half');
    fs.closeSync(fd);
    t.equal(fs.readFileSync(theirs ?? '', 'utf8'), 'half and half', 'from the close on');
    const reader = fs.openSync(theirs ?? '', 'r');
    fs.writeFileSync(mine ?? '', 'the second version, which is longer');
    t.equal(fs.readFileSync(reader, 'utf8'), 'half and half');
    fs.closeSync(reader);
    t.equal(fs.readFileSync(theirs ?? '', 'utf8'), 'the second version, which is longer');
    fs.chmodSync(mine ?? '', 0o640);
    t.equal(fs.statSync(theirs ?? '').mode & 0o7777, 0o640, 'and so are its attributes');
    fs.renameSync(mine ?? '', path.join(here, 'g'));
    t.same(fs.readdirSync(elsewhere), ['g']);
    fs.unlinkSync(path.join(elsewhere, 'g'));
    t.same(fs.readdirSync(here), [], 'changes go both ways');
  },
);

t.test('of two hosts that race one wins, and both see it', { skip }, async (t) => {
  const { here, elsewhere } = await worldOf(t, 'through');
  const roots = [here, elsewhere];
  const outcomes = async (attempt: (root: string, index: number) => Promise<unknown>): Promise<string[]> =>
    (await Promise.allSettled(roots.map(attempt))).map((each) =>
      each.status === 'fulfilled' ? 'done' : String((each.reason as NodeJS.ErrnoException).code),
    );
  for (let round = 0; round < 10; round++) {
    const made = await outcomes((root, index) =>
      fs.promises.writeFile(path.join(root, `new-${round}`), `of ${index}`, { flag: 'wx' }),
    );
    t.same(made.toSorted(), ['EEXIST', 'done'], 'O_EXCL');
    const winner = `of ${made.indexOf('done')}`;
    for (const root of roots) t.equal(fs.readFileSync(path.join(root, `new-${round}`), 'utf8'), winner);

    const directories = await outcomes((root) => fs.promises.mkdir(path.join(root, `dir-${round}`)));
    t.same(directories.toSorted(), ['EEXIST', 'done'], 'mkdir');

    for (const [index, root] of roots.entries())
      fs.writeFileSync(path.join(root, `from-${index}`), `from ${index}`);
    const renamed = await outcomes((root, index) =>
      fs.promises.rename(path.join(root, `from-${index}`), path.join(root, `target-${round}`)),
    );
    t.same(renamed, ['done', 'done']);
    const [one, other] = roots.map((root) => fs.readFileSync(path.join(root, `target-${round}`), 'utf8'));
    t.match(one, /^from [01]$/);
    t.equal(one, other, 'one rename came last');
  }
});

for (const mode of ['through', 'back'] as const) {
  t.test(`what fsync and close acknowledged survives SIGKILL: write ${mode}`, { skip }, async (t) => {
    const { system, here, elsewhere, mount } = await worldOf(t, mode);
    const closed = pattern(3 * MIB, 1);
    fs.writeFileSync(path.join(here, 'closed'), closed);
    const synced = pattern(2 * MIB, 2);
    const fd = fs.openSync(path.join(here, 'synced'), 'w');
    fs.writeSync(fd, synced);
    fs.fsyncSync(fd);
    await mount.kill();
    try {
      fs.closeSync(fd);
    } catch {
      // Nobody answers any more.
    }
    const again = await system.mount({ flags: ['--write-mode', mode] });
    t.equal((await system.cli(['flush', again.mountpoint])).code, 0);
    for (const root of [again.mountpoint, elsewhere]) {
      t.ok(fs.readFileSync(path.join(root, 'closed')).equals(closed));
      t.ok(fs.readFileSync(path.join(root, 'synced')).equals(synced));
    }
  });
}

t.test('a read-only mount refuses what changes anything', { skip }, async (t) => {
  const system = await System.start(t);
  const { mountpoint } = await system.mount({ flags: ['--read-only'] });
  t.throws(() => fs.writeFileSync(path.join(mountpoint, 'f'), 'x'), { code: 'EROFS' });
  t.throws(() => fs.mkdirSync(path.join(mountpoint, 'd')), { code: 'EROFS' });
  t.match(await run('findmnt', ['-n', '-o', 'OPTIONS', mountpoint]), { stdout: /^ro,/ });
});
