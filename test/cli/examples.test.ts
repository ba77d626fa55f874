import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { ConfigFile } from '../../lib/config/config-file.ts';
import { environmentVariableOf, flagOf, type Settings } from '../../lib/config/settings.ts';
import { checkMountSettings, mountSettings } from '../../lib/config/mount-settings.ts';
import { checkOriginSettings, originSettings } from '../../lib/config/origin-settings.ts';
import { resolveSettings } from '../../lib/config/settings.ts';
import { FakeControl, fakeWorld } from './fakes.ts';

const readme = fs.readFileSync(path.join(import.meta.dirname, '../../README.md'), 'utf8');
const sections = { origin: originSettings, mount: mountSettings };

const [configuration = '', policies = ''] = blocks('yaml');
const files = t.testdir({ 'perigee.yaml': configuration, 'policies.yaml': policies });
const configFile = path.join(files, 'perigee.yaml');

/** Runs a line as a shell would read it, in a world with one mount. */
async function runLine(
  line: string,
): Promise<{ readonly exitCode: number; readonly errors: readonly string[] }> {
  const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  const at = words.indexOf('perigee');
  const env = Object.fromEntries(words.slice(0, at).map((word) => word.split('=') as [string, string]));
  // The usual file need not be there: the README's own stands for it.
  const named: Record<string, string> = {
    '/etc/perigee/perigee.yaml': configFile,
    'policies.yaml': path.join(files, 'policies.yaml'),
  };
  const rest = words.slice(at + 1).map((word) => named[word] ?? word);
  const world = fakeWorld({ env });
  world.runtime.controls.set('/mnt/data', new FakeControl('/mnt/data'));
  world.runtime.running.end();
  return { exitCode: await world.run(...rest), errors: world.out.stderr };
}

function blocks(language: string): string[] {
  const found = [...readme.matchAll(new RegExp('^```' + language + '\\n([^]*?)^```$', 'gm'))];
  return found.map(([, text]) => text ?? '');
}

t.test("the README's commands are commands", async (t) => {
  const lines = blocks('sh')
    .flatMap((text) => text.replaceAll(/\\\n\s*/g, '').split('\n'))
    .filter((line) => line.startsWith('perigee '));
  t.ok(lines.length > 10);
  for (const line of lines) t.same(await runLine(line), { exitCode: 0, errors: [] }, line);
});

t.test('the examples under --help are commands', async (t) => {
  let examples = 0;
  for (const command of ['', 'up', 'origin', 'mount', 'unmount', 'status', 'cache', 'doctor'].concat(
    ['stat', 'list', 'pin', 'unpin', 'evict', 'verify'].map((name) => `cache ${name}`),
    ['origin init', 'origin certify', 'origin refresh', 'rm', 'mv', 'mkdir'],
  )) {
    const world = fakeWorld();
    await world.run(...command.split(' ').filter(Boolean), '--help');
    for (const [, line = ''] of world.out.stdout.join('\n').matchAll(/^ {2}\$ (.*)$/gm)) {
      t.same(await runLine(line), { exitCode: 0, errors: [] }, line);
      examples++;
    }
  }
  t.ok(examples > 25);
});

t.test("the README's configuration file is one", async (t) => {
  const file = ConfigFile.load({ asked: configFile, usual: configFile }, sections);
  t.ok(file);
  if (file === undefined) return;
  checkOriginSettings(resolveSettings(originSettings, [file.layer('origin')]));
  checkMountSettings(resolveSettings(mountSettings, [file.layer('mount')]));
  t.same(Object.keys(parse(blocks('yaml')[0] ?? '') as object), ['origin', 'mount']);
});

t.test("the README's tables name every option", async (t) => {
  const all: Settings[] = [mountSettings, originSettings];
  for (const settings of all) {
    for (const [key, definition] of Object.entries(settings)) {
      t.ok(readme.includes(`\`${flagOf(key, definition)}\``), flagOf(key, definition));
    }
  }
  t.equal(environmentVariableOf('cache-size'), 'PERIGEE_CACHE_SIZE');
});
