import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { fakeJob, FakeControl, fakeWorld } from './fakes.ts';

function world() {
  const control = new FakeControl('/mnt/data');
  const made = fakeWorld({ env: {} });
  made.runtime.controls.set('/mnt/data', control);
  /** Time passes while the command waits. */
  const wait = async (...words: string[]): Promise<number> => {
    const stop = setInterval(() => made.clock.pass(500), 1);
    return made.run(...words).finally(() => clearInterval(stop));
  };
  return { ...made, control, wait };
}

t.test('perigee prefetch starts a job with what it was told', async (t) => {
  const { run, out, control } = world();
  t.equal(
    await run('prefetch', '/mnt/data/train', '/mnt/data/x', '--bandwidth', '10MiB/s', '--priority', '-3'),
    0,
  );
  t.same(control.calls, ['prefetch train,x {"bytesPerSecond":10485760,"priority":-3}']);
  t.same(out.stdout, ['prefetch job 7: train x']);
});

t.test('perigee prefetch --wait ends with its job, with what is missing in its exit code', async (t) => {
  for (const [job, code, text] of [
    [{ state: 'done', filesThere: 2, bytesThere: 4096 }, 0, '2 of 2 files, 4 KiB of 4 KiB'],
    [
      { state: 'done', filesThere: 1, bytesThere: 2048, filesDeclined: 1 },
      3,
      '1 of 2 files, 2 KiB of 4 KiB, no room for 1',
    ],
    [{ state: 'done', filesFailed: 2 }, 1, '0 of 2 files, 0 B of 4 KiB, 2 failed'],
    [{ state: 'cancelled', filesThere: 1 }, 3, '1 of 2 files, 0 B of 4 KiB'],
    [
      { state: 'done', filesThere: 2, bytesThere: 4096, pathsMissing: 3 },
      3,
      '2 of 2 files, 4 KiB of 4 KiB, 3 missing',
    ],
  ] as const) {
    const { wait, out, control } = world();
    control.jobs = [fakeJob(), fakeJob({ isFound: true, ...job })];
    t.equal(await wait('prefetch', '/mnt/data/train', '--wait'), code);
    t.same(out.stdout, [text]);
  }
});

t.test('perigee prefetch says what failed, and refuses what makes no sense', async (t) => {
  const { run, wait, out, control } = world();
  control.jobs = [fakeJob({ state: 'failed', error: 'the origin is away' })];
  t.equal(await wait('prefetch', '/mnt/data', '--wait'), 1);
  t.match(out.stderr.join('\n'), /perigee: prefetch: the origin is away/);
  t.equal(await run('prefetch'), 2);
  t.match(out.stderr.join('\n'), /nothing to prefetch[^]*hint: name files or directories/);
  t.equal(await run('prefetch', '/mnt/data', '--ahead', '3'), 2);
  t.match(out.stderr.join('\n'), /--ahead is of a manifest/);
  t.equal(await run('prefetch', '/mnt/data', '--bandwidth', '10'), 2);
  t.match(out.stderr.join('\n'), /"10" is not a rate[^]*hint: write it as 500MiB\/s/);
  t.equal(await run('prefetch', '/mnt/data', '--manifest', 'm', '--ahead', '0'), 2);
  t.match(out.stderr.join('\n'), /--ahead: "0" is not a whole number from 1/);
});

t.test('perigee prefetch list and cancel show and end jobs', async (t) => {
  const { run, out, control } = world();
  t.equal(await run('prefetch', 'list', '/mnt/data'), 0);
  t.match(out.stdout, [
    'JOB  STATE  PROGRESS                      WHAT',
    /^7 +done +2 of 2 files, 4 KiB of 4 KiB +train$/,
  ]);
  t.equal(await run('prefetch', 'cancel', '7', '/mnt/data'), 0);
  t.same(control.calls, ['prefetchList', 'prefetchCancel 7']);
  t.match(out.stdout.at(-1), 'job 7 is cancelled: 0 files there');
});

t.test('perigee record writes what was opened while its command ran', async (t) => {
  const directory = t.testdir({});
  const manifest = path.join(directory, 'm.txt');
  const { run, out, control } = world();
  t.equal(await run('record', '/mnt/data/train', '-o', manifest, '--', process.execPath, '-e', '0'), 0);
  t.same(control.calls, ['recordStart train', 'recordStop 4']);
  t.equal(fs.readFileSync(manifest, 'utf8'), '# opened below /train\ntrain/b\ntrain/a\n');
  t.match(out.stderr, [/^3 files in .*m\.txt$/]);

  fs.rmSync(manifest);
  t.equal(
    await run('record', '/mnt/data', '-o', manifest, '--', process.execPath, '-e', 'process.exit(9)'),
    1,
  );
  t.match(out.stderr.at(-1), /ended with exit code 9/);
  t.ok(fs.existsSync(manifest), 'what was opened until then');
  t.equal(await run('record', '/mnt/data', '-o', manifest, '--', path.join(directory, 'no-such-program')), 2);
  t.match(out.stderr.join('\n'), /cannot run .*hint: write the command behind --/s);
});
