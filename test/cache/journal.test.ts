import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import { salvageStaging } from '../../cache/staging/salvage.ts';
import { openFixture, temporaryDirectory } from './fixture.ts';
import { entryOf, writeOf } from './staged.ts';

/** Two files that are owed, 1,000 and 2,000 bytes, and one that is not. */
async function leftBehind(t: Test): Promise<string> {
  const { cache, directory } = await openFixture(t);
  for (const [number, state] of (['synced', 'closed', 'begun'] as const).entries()) {
    const file = await cache.staging.create(writeOf(number + 1));
    await file.write(0, Buffer.alloc(1000 * (number + 1), number + 1));
    await file.record(entryOf(number + 1, { state, path: `run/ü\n${number + 1}.pt` }), { durable: true });
  }
  const copy = temporaryDirectory(t);
  await cache.close();
  cpSync(directory, copy, { recursive: true });
  return copy;
}

function contents(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return Object.fromEntries(
    entries
      .filter((entry) => entry.isFile() && !/lock\.db|owner|catalog/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path, readFileSync(path, 'latin1')]),
  );
}

/** The start fails in words, and leaves everything as it was. */
async function refuses(t: Test, directory: string, message: RegExp): Promise<void> {
  const before = contents(directory);
  await t.rejects(openFixture(t, { directory }), {
    ...{ code: 'journal', message, hint: /perigee cache salvage --cache DIR --to DIR/ },
  });
  t.same(contents(directory), before, 'nothing was touched');
}

function edit(directory: string, sql: string): void {
  const database = new Database(join(directory, 'journal.db'));
  database.exec(sql);
  database.close();
}

t.test('a journal that does not verify refuses the start in words', async (t) => {
  const damages: [string, (directory: string) => void, RegExp][] = [
    ['no database', (at) => writeFileSync(join(at, 'journal.db'), 'x'.repeat(8192)), /not a database/],
    ['a newer one', (at) => edit(at, 'PRAGMA user_version = 2'), /has format 2; this release knows 1/],
    ['another one', (at) => edit(at, 'PRAGMA application_id = 7'), /has format 1/],
    [
      'a changed row',
      (at) => edit(at, `UPDATE staged SET entry = replace(entry, '"mode":416', '"mode":417')`),
      /the row of write-1 does not match its checksum/,
    ],
    ['a row moved', (at) => edit(at, `UPDATE staged SET name = 'write-9' WHERE name = 'write-2'`), /write-9/],
    [
      'a damaged page',
      (at) => {
        const bytes = readFileSync(join(at, 'journal.db'));
        bytes.fill(0xff, 4096, 4096 + 100);
        writeFileSync(join(at, 'journal.db'), bytes);
      },
      /does not verify/,
    ],
  ];
  for (const [what, damage, message] of damages) {
    await t.test(what, async (t) => {
      const directory = await leftBehind(t);
      damage(directory);
      await refuses(t, directory, message);
    });
  }
});

t.test('a file that is owed and not all there refuses the start', async (t) => {
  await t.test('gone', async (t) => {
    const directory = await leftBehind(t);
    unlinkSync(join(directory, 'staging', writeOf(1)));
    await refuses(t, directory, /run\/ü\n1\.pt: .*staging\/write-1 is gone/);
  });
  await t.test('short, and others', async (t) => {
    const directory = await leftBehind(t);
    truncateSync(join(directory, 'staging', writeOf(1)), 999);
    truncateSync(join(directory, 'staging', writeOf(2)), 0);
    await refuses(t, directory, /write-1 has 999 of at least 1000 bytes \(and 1 more\)/);
  });
  await t.test('no folder', async (t) => {
    const directory = await leftBehind(t);
    rmSync(join(directory, 'staging'), { recursive: true });
    await t.rejects(openFixture(t, { directory }), { code: 'journal', message: /and 1 more/ });
  });
});

t.test('a refused start leaves also what was not owed', async (t) => {
  const directory = await leftBehind(t);
  writeFileSync(join(directory, 'staging', writeOf(7)), 'never recorded');
  truncateSync(join(directory, 'staging', writeOf(1)), 0);
  await refuses(t, directory, /write-1/);
});

t.test('salvage copies every file, and says what it is', async (t) => {
  const directory = await leftBehind(t);
  writeFileSync(join(directory, 'staging', writeOf(7)), 'never recorded');
  truncateSync(join(directory, 'staging', writeOf(2)), 500);
  const before = contents(directory);
  const to = join(temporaryDirectory(t), 'new', 'folder');
  const report = await salvageStaging({ cacheDirectory: directory, to });
  t.match(report, { files: 4, bytes: 1000 + 500 + 3000 + 14, losses: 1, problems: [] });
  t.same(contents(directory), before, 'nothing was touched');
  t.same(readFileSync(join(to, writeOf(1))), Buffer.alloc(1000, 1));
  t.same(readFileSync(report.list, 'utf8').trimEnd().split('\n').sort(), [
    'write-1\tsynced\t1000 bytes of 1000\tmain\t"run/ü\\n1.pt"',
    'write-2\tclosed\t500 bytes of 2000\tmain\t"run/ü\\n2.pt"',
    'write-3\tbegun\t3000 bytes of 3000\tmain\t"run/ü\\n3.pt"',
    'write-7\tnot in the journal\t14 bytes',
  ]);
});

t.test('salvage gets along with any journal', async (t) => {
  const cases: [string, (directory: string) => void, RegExp | undefined, number][] = [
    ['none', (at) => unlinkSync(join(at, 'journal.db')), /cannot be read/, 3],
    ['no database', (at) => writeFileSync(join(at, 'journal.db'), 'x'.repeat(8192)), /ends early/, 3],
    ['a bad row', (at) => edit(at, `UPDATE staged SET crc = 1 WHERE name = 'write-1'`), /row of write-1/, 1],
    ['a missing file', (at) => unlinkSync(join(at, 'staging', writeOf(1))), undefined, 0],
  ];
  for (const [what, damage, problem, unknown] of cases) {
    const directory = await leftBehind(t);
    damage(directory);
    const to = temporaryDirectory(t);
    const report = await salvageStaging({ cacheDirectory: directory, to });
    if (problem === undefined) t.same(report.problems, [], what);
    else t.match(report.problems[0], problem, what);
    const lines = readFileSync(report.list, 'utf8');
    t.equal(lines.match(/not in the journal/g)?.length ?? 0, unknown, what);
    t.equal(report.losses, what === 'a missing file' ? 1 : 0);
  }
});

t.test('salvage refuses what is no cache, what is in use, and a target that is not empty', async (t) => {
  const to = temporaryDirectory(t);
  const foreign = temporaryDirectory(t);
  await t.rejects(salvageStaging({ cacheDirectory: foreign, to }), { code: 'foreign' });
  t.same(readdirSync(foreign), []);
  const { directory, cache } = await openFixture(t);
  await t.rejects(salvageStaging({ cacheDirectory: directory, to }), { code: 'locked' });
  await cache.close();
  mkdirSync(join(to, 'something'));
  await t.rejects(salvageStaging({ cacheDirectory: directory, to }), { message: /is not empty/ });
});
