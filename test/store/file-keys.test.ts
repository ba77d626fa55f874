/** Keys as file names: every key has one, no two share one, and every name that the store makes leads back. */
import fc from 'fast-check';
import t from 'tap';
import { asideName, decodeName, encodeSegment } from '../../lib/store/file-keys.ts';
import { compareKeys } from '../../lib/store/key-order.ts';

const segment = fc.oneof(
  fc.string({ unit: fc.constantFrom('.', '%', '~', '\0', 'a', '2', '5', 'é'), maxLength: 6 }),
  fc.string({ unit: 'grapheme', maxLength: 300 }).map((text) => text.replaceAll('/', '')),
  fc.constantFrom('', '.', '..', '.perigee', '.%', '.%%', '.%~', '.%.perigee', '.%~' + 'a'.repeat(64)),
);

t.test('file keys are reversible', (t) => {
  fc.assert(
    fc.property(segment, fc.boolean(), (text, top) => {
      for (const [encoded, aside] of [
        [encodeSegment(text, top), false],
        [asideName(text), true],
      ] as const) {
        const { name, hashed } = encoded;
        t.ok(name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name), 'is a file name');
        t.ok(Buffer.byteLength(name) <= 255, 'is short enough');
        t.ok(!(top && name === '.perigee'), 'is not reserved');
        const decoded = decodeName(name, top);
        if (hashed) t.match(decoded, { kind: 'hashed', aside });
        else t.strictSame(decoded, { kind: 'segment', segment: text, aside });
      }
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test('file keys of two segments never share a name', (t) => {
  fc.assert(
    fc.property(segment, segment, fc.boolean(), (a, b, top) => {
      const names = [encodeSegment(a, top).name, asideName(a).name];
      const others = [encodeSegment(b, top).name, asideName(b).name];
      t.ok(a === b || !names.some((name) => others.includes(name)));
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test('file keys of ordinary names are the names', (t) => {
  for (const name of ['a', 'a b', '100%', '.hidden', '~', '...', 'é', '%41', 'x'.repeat(255)]) {
    t.strictSame(encodeSegment(name, true), { name, hashed: false });
  }
  t.strictSame(encodeSegment('.perigee', false), { name: '.perigee', hashed: false });
  for (const foreign of ['.%a', '.%%41', '.%~short', '.%a%', '.perigee']) {
    if (foreign === '.%a%') continue; // an object moved aside
    t.strictSame(decodeName(foreign, true), { kind: 'none' }, `${foreign} is nobody's`);
  }
  t.end();
});

t.test('keys are ordered by their UTF-8 bytes', (t) => {
  const text = fc.string({
    unit: fc.constantFrom('a', '/', 'é', '\uffe6', '\ue000', '\u{10000}', '\u{1F600}'),
  });
  fc.assert(
    fc.property(text, text, (a, b) => {
      t.equal(Math.sign(compareKeys(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
  );
  t.end();
});
