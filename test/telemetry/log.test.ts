import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { needs, unmet } from '../support/requirements.ts';

const module = path.join(import.meta.dirname, '../../lib/telemetry/log.ts');
const program = `import(${JSON.stringify(module)}).then(({ createLogger }) =>
  createLogger({ level: 'info' }).warn({ export: 'data' }, 'the store does not answer'))`;

t.test('a log is one JSON object a line where a program reads it', async (t) => {
  const { stderr, stdout } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  t.equal(stdout, '');
  t.match(JSON.parse(stderr), { level: 40, export: 'data', msg: 'the store does not answer' });
});

t.test('a log is text on a terminal', { skip: unmet(needs.terminal) }, async (t) => {
  const { stdout } = spawnSync('script', ['-qec', '"$NODE" -e "$PROGRAM"', '/dev/null'], {
    encoding: 'utf8',
    env: { ...process.env, NODE: process.execPath, PROGRAM: program },
  });
  t.match(stdout, /WARN.*the store does not answer/);
  t.notMatch(stdout, /"level"/);
  t.equal(stdout.trim().split('\n').length, 1, 'one line');
});
