import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { KIB } from '../../lib/base/limits.ts';
import { openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

t.test('directory of another satellite is refused, in this process and from outside', async (t) => {
  const { cache, directory } = await openFixture(t);
  await t.rejects(openFixture(t, { directory }), {
    code: 'locked',
    message: new RegExp(`pid ${process.pid}`),
  });
  const script = `
    const Database = require('better-sqlite3');
    try { new Database(process.argv[1], { timeout: 0 }).exec('BEGIN EXCLUSIVE'); console.log('taken'); }
    catch (error) { console.log(error.code); }`;
  const answer = execFileSync(process.execPath, ['-e', script, join(directory, 'lock.db')], {
    encoding: 'utf8',
  });
  t.equal(answer.trim(), 'SQLITE_BUSY');
  await cache.close();
  const again = await openFixture(t, { directory });
  await again.cache.close();
});

t.test('directory of a killed owner is free at once', async (t) => {
  const { cache, directory } = await openFixture(t);
  await cache.close();
  const script = `
    const Database = require('better-sqlite3');
    new Database(process.argv[1]).exec('BEGIN EXCLUSIVE');
    console.log('held'); setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['-e', script, join(directory, 'lock.db')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => owner.stdout.once('data', resolve));
  await t.rejects(openFixture(t, { directory }), { code: 'locked' });
  owner.kill('SIGKILL');
  await new Promise((resolve) => owner.once('exit', resolve));
  await openFixture(t, { directory });
});

t.test('directory that is not empty and not a cache is refused and left alone', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'blobs'));
  writeFileSync(join(directory, 'blobs', 'thesis.tex'), 'years of work');
  await t.rejects(openFixture(t, { directory }), { code: 'foreign', message: /blobs/ });
  t.same(readdirSync(directory), ['blobs']);
  t.equal(readFileSync(join(directory, 'blobs', 'thesis.tex'), 'utf8'), 'years of work');
});

t.test('directory of a fresh file system is empty enough', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'lost+found'));
  await openFixture(t, { directory });
});

t.test('directory format that is unknown is refused in words', async (t) => {
  const { cache, directory } = await openFixture(t);
  await cache.close();
  writeFileSync(join(directory, 'format'), '{"name":"perigee-cache","version":99}');
  await t.rejects(openFixture(t, { directory }), {
    code: 'format',
    message: /format 99/,
    hint: /release that made it/,
  });
  for (const junk of ['PNG', '', 'null', '7', '{"name":"songs"}']) {
    writeFileSync(join(directory, 'format'), junk);
    const hint = /if .* is an old cache it may be deleted/;
    await t.rejects(openFixture(t, { directory }), { code: 'foreign', hint }, JSON.stringify(junk));
    t.equal(readFileSync(join(directory, 'format'), 'utf8'), junk, 'left as it was');
  }
});

t.test('directory catalog of an unknown schema is refused and the lock let go', async (t) => {
  const { cache, directory } = await openFixture(t);
  await cache.close();
  const database = new Database(join(directory, 'catalog.db'));
  database.pragma('user_version = 77');
  database.close();
  await t.rejects(openFixture(t, { directory }), { code: 'format', message: /schema 77/ });
  await t.rejects(openFixture(t, { directory }), { code: 'format' }, 'still not "locked"');
});

t.test('directory catalog that is damaged is refused with a hint', async (t) => {
  const { cache, directory } = await openFixture(t);
  await cache.close();
  writeFileSync(join(directory, 'catalog.db'), Buffer.alloc(8192, 'x'));
  await t.rejects(openFixture(t, { directory }), { code: 'disk', hint: /./ });
});

t.test('directory path that is a file, or cannot be made, is refused with a hint', async (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'file'), '');
  await t.rejects(openFixture(t, { directory: join(directory, 'file') }), { code: 'disk', hint: /./ });
  await t.rejects(openFixture(t, { directory: '/proc/nowhere/cache' }), { code: 'disk', hint: /./ });
});

t.test('directory smaller than one block is refused', async (t) => {
  await t.rejects(openFixture(t, { capacityBytes: 63 * KIB }), { code: 'too-small', hint: /more space/ });
});

t.test(
  'directory files that the catalog does not know are removed at start, only inside blobs',
  async (t) => {
    const { cache, tier, directory } = await openFixture(t);
    const source = sourceOf(1, 1000);
    const handle = openVersion(cache, source);
    await handle.read(0, 1);
    handle.close();
    await cache.close();
    const strangers = [
      join(directory, 'blobs', '00', 'ff'.repeat(16)),
      join(directory, 'blobs', 'trash', '1'),
    ];
    for (const path of strangers) writeFileSync(path, 'old');
    writeFileSync(join(directory, 'note'), 'mine');
    const again = await openFixture(t, { directory, tier });
    t.same(readdirSync(join(directory, 'blobs', 'trash')), []);
    t.same(readdirSync(join(directory, 'blobs', '00')), [source.version]);
    t.equal(readFileSync(join(directory, 'note'), 'utf8'), 'mine');
    t.same(Buffer.from(await openVersion(again.cache, source).read(0, 1000)), trueBytes(source, 0, 1000));
    t.equal(tier.fills.length, 1);
  },
);
