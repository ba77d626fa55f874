import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { needs, unmet } from '../support/requirements.ts';

const units = path.join(import.meta.dirname, '../../systemd');

t.test('systemd-analyze verify accepts the units', { skip: unmet(needs.systemdAnalyze) }, async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-units-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  const files = fs.readdirSync(units).map((name) => {
    const text = fs.readFileSync(path.join(units, name), 'utf8');
    // The command need not be installed here; /bin/true stands for it.
    const stand = text.replaceAll(/^(Exec\w+=-?)perigee\b/gm, `$1/bin/true`);
    t.not(stand, text, `${name} starts perigee`);
    const file = path.join(directory, name.replace('@.', '@data.'));
    fs.writeFileSync(file, stand);
    return file;
  });
  t.equal(files.length, 2);
  for (const file of files) {
    const result = spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', file], {
      encoding: 'utf8',
    });
    const complaints = result.stderr.split('\n').filter((line) => line.includes('perigee'));
    t.same(complaints, [], path.basename(file));
    t.equal(result.status, 0);
  }
});

t.test('the unit of a mount keeps the name space of the host', async (t) => {
  const text = fs.readFileSync(path.join(units, 'perigee@.service'), 'utf8');
  const settings = text.split('\n').filter((line) => !line.startsWith('#'));
  for (const line of settings) {
    t.notMatch(
      line,
      /^(Private|Protect|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|DynamicUser|MountFlags|Temporary)/,
    );
  }
});

t.test('the commands in the units are commands', async (t) => {
  for (const name of fs.readdirSync(units)) {
    const text = fs.readFileSync(path.join(units, name), 'utf8');
    for (const [, command] of text.matchAll(/^Exec\w+=-?perigee (\w+)/gm)) {
      t.match(command, /^(origin|mount|unmount)$/);
    }
  }
});
