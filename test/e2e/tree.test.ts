/** A whole tree through the product, as users' tools read it, compared with its source. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { needs, unmet } from '../support/requirements.ts';
import { run, System } from '../support/system.ts';
import { writeTree } from '../support/tree.ts';

const SEED = 20_000;
const FILES = Number(process.env['PERIGEE_TREE_FILES'] ?? 20_000);

t.test(
  'a tree of random names and sizes reads like its source',
  { skip: unmet(needs.fuse, needs.rsync) },
  async (t) => {
    t.comment(`seed ${SEED}, ${FILES} files`);
    const system = await System.start(t);
    const source = system.objects;
    writeTree(source, { seed: SEED, files: FILES, bytesMax: 100_000 });
    const { mountpoint } = await system.mount({ cacheSize: '4GiB' });

    const find = (root: string) =>
      run('find', ['.', '-name', '.perigee', '-prune', '-o', '-printf', '%P %y %s\\0'], { cwd: root });
    const [ours, theirs] = [await find(mountpoint), await find(source)];
    const sorted = (text: string) =>
      text
        .split('\0')
        .filter((line) => !line.includes(' d '))
        .sort();
    t.strictSame(sorted(ours.stdout), sorted(theirs.stdout), 'find prints the same names, types and sizes');

    const sums = path.join(system.directory, 'sums');
    await run(
      'sh',
      ['-c', `find . -name .perigee -prune -o -type f -print0 | xargs -0 sha256sum > ${sums}`],
      { cwd: source },
    );
    const checked = await run('sha256sum', ['--quiet', '--check', sums], {
      cwd: mountpoint,
      timeoutMs: 280_000,
    });
    t.equal(
      checked.code,
      0,
      `sha256sum --check passes: ${checked.stdout.slice(0, 500)}${checked.stderr.slice(0, 500)}`,
    );
    t.ok(fs.statSync(sums).size > FILES * 64, 'every file was in the list');

    const tar = await run('sh', ['-c', `tar -cf - . | tar -df - -C ${source}`], { cwd: mountpoint });
    t.equal(
      tar.stdout.split('\n').filter((line) => /Contents differ|No such file/.test(line)).length,
      0,
      'tar sees the same contents',
    );

    const copied = path.join(system.directory, 'copied');
    const rsync = await run('rsync', ['-r', '--times', `${mountpoint}/`, `${copied}/`]);
    t.equal(rsync.code, 0, rsync.stderr);
    const diff = await run('diff', ['-r', '--exclude=.perigee', source, copied]);
    t.equal(diff.code, 0, `rsync copied the tree: ${diff.stdout.slice(0, 500)}`);
  },
);
