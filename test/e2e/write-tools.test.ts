/** What people run on a disk, on a mount: version control, copies there and back, a database, an archive. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { needs, unmet } from '../support/requirements.ts';
import { type Ran, run, System } from '../support/system.ts';
import { sha256 } from '../support/tree.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

interface World {
  readonly here: string;
  readonly elsewhere: string;
  /** On a local disk. */
  readonly local: string;
}

async function worldOf(t: Test): Promise<World> {
  const system = await System.start(t);
  const [mount, other] = [await system.mount(), await system.mount({ name: 'b' })];
  const local = path.join(system.directory, 'local');
  fs.mkdirSync(local);
  return { here: mount.mountpoint, elsewhere: other.mountpoint, local };
}

async function succeeds(t: Test, command: string, args: readonly string[]): Promise<Ran> {
  const ran = await run(command, args);
  t.equal(ran.code, 0, `${command} ${args.join(' ')}: ${ran.stderr}`);
  return ran;
}

/** Every file with its checksum, every link with its target, all with their modes. */
function contentOf(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of fs.readdirSync(root, { recursive: true, withFileTypes: true })) {
    const name = path.join(entry.parentPath, entry.name);
    const { mode } = fs.lstatSync(name);
    const what = entry.isSymbolicLink()
      ? fs.readlinkSync(name)
      : entry.isFile()
        ? sha256(fs.readFileSync(name))
        : '';
    found[path.relative(root, name)] = `${(mode & 0o7777).toString(8)} ${what}`;
  }
  return found;
}

/** Small and larger files in a few directories, a link, an empty directory, modes of all kinds. */
function writeTree(root: string): void {
  for (const [index, directory] of ['', 'a', 'a/b', 'ä ö'].entries()) {
    fs.mkdirSync(path.join(root, directory), { recursive: true });
    for (const size of [0, 1, 5_000, 300_000]) {
      const name = path.join(root, directory, `file of ${size}`);
      fs.writeFileSync(name, Buffer.alloc(size, `${index} ${size} `));
      fs.chmodSync(name, [0o644, 0o600, 0o755, 0o444][index] ?? 0o644);
      fs.utimesSync(name, 1_000_000_000, 1_000_000_000 + size);
    }
  }
  fs.mkdirSync(path.join(root, 'empty'));
  fs.symlinkSync('a/b', path.join(root, 'link'));
}

t.test(
  'git clones into a mount, commits, and finds nothing wrong',
  { skip: unmet(needs.fuse) },
  async (t) => {
    const { here, elsewhere, local } = await worldOf(t);
    const source = path.join(local, 'source');
    const git = (at: string, ...args: string[]) =>
      succeeds(t, 'git', ['-C', at, '-c', 'user.name=x', '-c', 'user.email=x@y', ...args]);
    fs.cpSync(path.join(ROOT, 'lib/base'), source, { recursive: true });
    await succeeds(t, 'git', ['init', '-q', source]);
    await git(source, 'add', '.');
    await git(source, 'commit', '-q', '-m', 'first');
    await succeeds(t, 'git', ['clone', '-q', '--no-hardlinks', source, path.join(here, 'clone')]);
    const clone = path.join(here, 'clone');
    fs.appendFileSync(path.join(clone, 'clock.ts'), '// more\n');
    await git(clone, 'commit', '-q', '-a', '-m', 'second');
    await git(clone, 'gc', '-q');
    t.equal((await git(clone, 'status', '--porcelain')).stdout, '');
    const there = path.join(elsewhere, 'clone');
    const checked = await run('git', [
      '-c',
      `safe.directory=${there}`,
      '-C',
      there,
      'fsck',
      '--full',
      '--strict',
    ]);
    t.equal(checked.code, 0, checked.stderr);
  },
);

t.test('rsync copies a tree there and back', { skip: unmet(needs.fuse, needs.rsync) }, async (t) => {
  const { here, elsewhere, local } = await worldOf(t);
  const [source, back] = [path.join(local, 'source'), path.join(local, 'back')];
  writeTree(source);
  await succeeds(t, 'rsync', ['-a', `${source}/`, path.join(here, 'copy')]);
  const changed = await succeeds(t, 'rsync', ['-ai', '--checksum', `${source}/`, path.join(here, 'copy')]);
  t.equal(changed.stdout, '', 'all is there with its times and modes');
  await succeeds(t, 'rsync', ['-a', `${path.join(elsewhere, 'copy')}/`, back]);
  t.same(contentOf(back), contentOf(source));
});

t.test('tar unpacks what it packed', { skip: unmet(needs.fuse) }, async (t) => {
  const { here, elsewhere, local } = await worldOf(t);
  writeTree(path.join(local, 'source'));
  await succeeds(t, 'tar', ['-C', local, '-cf', path.join(here, 'a.tar'), 'source']);
  await succeeds(t, 'tar', ['-C', elsewhere, '-xpf', path.join(elsewhere, 'a.tar')]);
  t.same(contentOf(path.join(here, 'source')), contentOf(path.join(local, 'source')));
  await succeeds(t, 'rm', ['-r', path.join(here, 'source')]);
  t.same(fs.readdirSync(elsewhere), ['a.tar']);
});

const DATABASE = `
import sqlite3, sys
path, mode = sys.argv[1:]
first = sqlite3.connect(path, timeout=30)
assert first.execute('pragma journal_mode=' + mode).fetchone()[0] == mode
first.execute('create table t (a integer primary key, b text)')
other = sqlite3.connect(path, timeout=30)
for number in range(60):
    each = first if number % 2 else other
    with each: each.execute('insert into t (b) values (?)', ('x' * 1000 + str(number),))
first.execute('begin immediate')
try:
    sqlite3.connect(path, timeout=0).execute('begin immediate')
    raise SystemExit('two writers at a time')
except sqlite3.OperationalError as error: assert 'locked' in str(error), error
first.rollback()
assert other.execute('select count(*) from t').fetchone()[0] == 60
other.close(); first.close()
again = sqlite3.connect(path)
assert again.execute('pragma integrity_check').fetchone()[0] == 'ok'
assert again.execute('select count(*) from t').fetchone()[0] == 60
`;

for (const mode of ['delete', 'wal']) {
  t.test(`sqlite works on a mount with ${mode}`, { skip: unmet(needs.fuse, needs.python) }, async (t) => {
    const { here, elsewhere } = await worldOf(t);
    await succeeds(t, 'python3', ['-c', DATABASE, path.join(here, 'db'), mode]);
    t.same(fs.readdirSync(elsewhere), ['db'], 'no journal is left');
    t.ok(fs.readFileSync(path.join(elsewhere, 'db')).equals(fs.readFileSync(path.join(here, 'db'))));
  });
}
