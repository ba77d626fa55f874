import path from 'node:path';
import t, { type Test } from 'tap';
import { ConfigFile } from '../../lib/config/config-file.ts';
import { mountSettings } from '../../lib/config/mount-settings.ts';
import { originSettings } from '../../lib/config/origin-settings.ts';

const sections = { origin: originSettings, mount: mountSettings };

function load(t: Test, text: string) {
  const file = path.join(t.testdir({ f: text }), 'f');
  return { file, load: () => ConfigFile.load({ asked: file, usual: '/nonexistent' }, sections) };
}

t.test('a file without content gives nothing', async (t) => {
  for (const text of ['', '# only a comment\n', '---\n', 'mount:\n', 'mount: {}\norigin: ~\n']) {
    const layer = load(t, text).load()?.layer('mount');
    t.equal(layer?.('cache', mountSettings.cache), undefined);
  }
});

t.test('the usual file may be absent, a named one may not', async (t) => {
  t.equal(ConfigFile.load({ asked: undefined, usual: '/nonexistent/f' }, sections), undefined);
  t.throws(() => ConfigFile.load({ asked: '/nonexistent/f', usual: '' }, sections), {
    name: 'UsageError',
    message: 'cannot read the configuration file /nonexistent/f',
    hint: /--config/,
  });
  const directory = t.testdir();
  t.throws(() => ConfigFile.load({ asked: undefined, usual: directory }, sections), { name: 'UsageError' });
});

t.test('a value knows its place', async (t) => {
  const { file, load: read } = load(t, '# comment\nmount:\n  cache: "/nvme/ü"\n  labels:\n    rack: a1\n');
  const layer = read()?.layer('mount');
  t.same(layer?.('cache', mountSettings.cache), { value: '/nvme/ü', from: `${file}:3:10: mount.cache` });
  t.same(layer?.('labels', mountSettings.labels)?.value, { rack: 'a1' });
  t.equal(layer?.('driver', mountSettings.driver), undefined);
});

t.test('what nobody reads is refused with its line and column', async (t) => {
  const cases: [string, string, string][] = [
    ['mount:\n  cach: /x\n', ':2:3: the section mount has an unknown key "cach"', 'did you mean cache?'],
    [
      'mount:\n  cache: /x\n  cacheSize: 1\n',
      ':3:3: the section mount has an unknown key',
      'did you mean cache-size?',
    ],
    [
      'mount:\n  zebra: 1\n',
      ':2:3: the section mount has an unknown key "zebra"',
      'known are cache, cache-size',
    ],
    ['\nmonut:\n  cache: /x\n', ':2:1: the file has an unknown key "monut"', 'did you mean mount?'],
    ['- a\n', ':1:1: the file is not a map of names to values', 'it may have origin, mount'],
    ['mount: 7\n', ':1:8: the section mount is not a map of names to values', 'it may have cache'],
    ['mount:\n  - cache\n', ':2:3: the section mount is not a map', 'it may have cache'],
    ['mount:\n  cache: /x\n  cache: /y\n', ':3:3: Map keys must be unique', 'YAML'],
    ['mount: {\n', ':2:1: ', 'YAML'],
    ['mount:\n  cache: *nowhere\n', ':2:10: ', 'YAML'],
  ];
  for (const [text, message, hint] of cases) {
    const { file, load: read } = load(t, text);
    try {
      const found = read();
      found?.layer('mount')('cache', mountSettings.cache);
      t.fail(`accepted ${JSON.stringify(text)}`);
    } catch (error) {
      const { name, message: words, hint: advice } = error as Error & { hint: string };
      t.equal(name, 'UsageError');
      t.ok(words.startsWith(`${file}${message}`), `${words} begins with ${message}`);
      t.ok(advice.includes(hint), `${advice} has ${hint}`);
    }
  }
});

t.test('a file of another kind is refused', async (t) => {
  const { load: read } = load(t, 'x'.repeat(2 * 1024 * 1024));
  t.throws(read, { name: 'UsageError', message: /cannot read the configuration file/ });
});
