import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';

const bin = path.join(import.meta.dirname, '../../bin');
const DEADLINE_MS = 60_000;

function run(entry: string, ...words: string[]) {
  const runDirectory = fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-run-'));
  try {
    const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(bin, entry), ...words], {
      encoding: 'utf8',
      timeout: DEADLINE_MS,
      env: { PATH: process.env.PATH, PERIGEE_RUN_DIR: runDirectory },
    });
    return { status, stdout, stderr };
  } finally {
    fs.rmSync(runDirectory, { recursive: true });
  }
}

t.test('bin/perigee ends with the exit code of its command', async (t) => {
  const { version } = JSON.parse(fs.readFileSync(path.join(bin, '../package.json'), 'utf8')) as {
    version: string;
  };
  t.same(run('perigee.ts', '--version'), { status: 0, stdout: `${version}\n`, stderr: '' });
  // Other mounts of this host are shown too.
  t.ok(Array.isArray(JSON.parse(run('perigee.ts', 'status', '--json').stdout)));
  t.same(run('perigee.ts', 'stauts'), {
    status: 2,
    stdout: '',
    stderr: "perigee: unknown command 'stauts'\nhint: did you mean status?\n",
  });
  t.match(run('perigee.ts', 'status', '/nonexistent/mount'), {
    status: 1,
    stdout: '',
    stderr: /^perigee: status: no perigee mount answers at \/nonexistent\/mount\nhint: /,
  });
});

t.test('bin/mount.perigee ends with the exit codes of mount(8)', async (t) => {
  t.match(run('mount.perigee.ts', 'host:1/e'), { status: 1, stderr: /^mount.perigee: expected a source/ });
  t.match(run('mount.perigee.ts', 'host:1/e', '/m', '-f', '-o', 'cache=/c,cache-size=1GiB'), {
    status: 0,
    stdout: '',
    stderr: '',
  });
});
