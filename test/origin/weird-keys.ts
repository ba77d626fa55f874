/** Arbitrary keys that are hard to make a tree of: few segments, close in order around the slash. */
import fc from 'fast-check';

const SEGMENTS = [
  'a',
  'b',
  'a-b',
  'a.b',
  'a!',
  'ab',
  'a0',
  '-',
  '.x',
  '',
  '.',
  '..',
  'a\0',
  '\ufffd',
  'é',
  '\uffee',
  '\u{1f600}',
  'n'.repeat(255),
  'n'.repeat(256),
];

/** A key that a store can hold: not empty, well-formed. */
export function weirdKey(): fc.Arbitrary<string> {
  const segment = fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...SEGMENTS) },
    { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 5 }) },
  );
  return fc
    .array(segment, { minLength: 1, maxLength: 4 })
    .map((segments) => segments.join('/'))
    .filter((key) => key !== '' && key.isWellFormed());
}
