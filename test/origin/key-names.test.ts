/** Which names keys have, and which keys have none. */
import fc from 'fast-check';
import t from 'tap';
import { directoryName, KeyInspector, nameProblem, objectName } from '../../lib/origin/tree/key-names.ts';
import { compareBytes } from '../../lib/origin/tree/listing-order.ts';
import { weirdKey } from './weird-keys.ts';

t.test('name problem tells what no file can be called', async (t) => {
  for (const good of [
    'a',
    '...',
    '.a',
    'a b',
    'é',
    '\u{1f600}',
    'x'.repeat(255),
    'é'.repeat(127),
    '\n',
    '%2f',
  ]) {
    t.equal(nameProblem(good), undefined, JSON.stringify(good.slice(0, 20)));
  }
  for (const bad of ['', '.', '..', 'a\0b', 'a/b', '\ud800', 'a\ufffd', 'x'.repeat(256), 'é'.repeat(128)]) {
    t.type(nameProblem(bad), 'string', JSON.stringify(bad.slice(0, 20)));
  }
});

t.test('names of a listing lie in their directory or are hidden', async (t) => {
  t.equal(objectName('d/', 'd/a'), 'a');
  t.equal(objectName('d/', 'd/'), undefined, 'the marker of the directory itself');
  t.equal(objectName('d/', 'e/a'), undefined, 'a store that answers beside the prefix');
  t.equal(directoryName('d/', 'd/a/'), 'a');
  t.equal(directoryName('d/', 'd//'), undefined);
  t.equal(directoryName('', 'a'), undefined, 'a prefix without its delimiter');
  t.equal(directoryName('', '../'), undefined);
});

t.test('key inspector reports every key that is hidden, and no other', async () => {
  fc.assert(
    fc.property(fc.uniqueArray(weirdKey(), { maxLength: 40 }), (keys) => {
      const inspector = new KeyInspector();
      const reported = new Set(
        [...keys]
          .sort(compareBytes)
          .flatMap((key) => inspector.next({ key, sizeBytes: 0 }))
          .map(({ key }) => key),
      );
      for (const key of keys) {
        const segments = key.endsWith('/') ? key.slice(0, -1).split('/') : key.split('/');
        const isHidden =
          segments.some((segment) => nameProblem(segment) !== undefined) ||
          (!key.endsWith('/') && keys.some((other) => other.startsWith(`${key}/`)));
        if (reported.has(key) !== isHidden) throw new Error(`${JSON.stringify(key)} hidden: ${isHidden}`);
      }
    }),
  );
});

t.test('key inspector reports bytes of a directory marker', async (t) => {
  const [found] = new KeyInspector().next({ key: 'a/', sizeBytes: 3 });
  t.match(found, { key: 'a/', finding: /3 bytes/ });
});
