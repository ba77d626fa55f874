import t from 'tap';
import { CacheError } from '../../cache/block-cache.ts';
import { fakeWorld } from './fakes.ts';

const WORDS = ['cache', 'salvage', '--cache', 'nvme', '--to', '/saved'] as const;

t.test('cache salvage says what it has copied and where that is explained', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run(...WORDS), 0);
  t.same(world.out.stdout, ['copied: 3 files, 5 MiB', 'what they are: /s/list.txt']);
  t.match(world.runtime.asked, [['salvageCache', { cacheDirectory: /^\/.*\/nvme$/, to: '/saved' }]]);
});

t.test('cache salvage has done a part where something is missing', async (t) => {
  const world = fakeWorld();
  const problems = ['the row of write-7 does not match its checksum'];
  world.runtime.salvaged = { files: 1, bytes: 1024, losses: 2, problems, list: '/s/list.txt' };
  t.equal(await world.run(...WORDS), 3);
  t.same(world.out.stdout, [
    'copied: 1 file, 1 KiB',
    'missing or short: 2 files',
    ...problems,
    'what they are: /s/list.txt',
  ]);
  t.equal(await world.run(...WORDS, '--json'), 3);
  t.match(JSON.parse(world.out.stdout[4] ?? ''), { files: 1, losses: 2, problems });
});

t.test('cache salvage fails in words, and needs both directories', async (t) => {
  const world = fakeWorld();
  world.runtime.failure = new CacheError('locked', '/nvme belongs to another running satellite');
  t.equal(await world.run(...WORDS), 1);
  t.equal(await world.run('cache', 'salvage', '--to', '/saved'), 2);
  t.equal(await world.run('cache', 'salvage', '--cache', '/nvme'), 2);
});
