import t from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { ListingSequences } from '../../lib/prefetch/listing-sequences.ts';
import { NameSequences } from '../../lib/prefetch/name-sequences.ts';

const HERE = 5n as InodeNumber;
const THERE = 6n as InodeNumber;

/** What is said after each open. */
function say(names: readonly string[], { ahead = 2, sequences = new NameSequences() } = {}): string[] {
  return names.map((name) => sequences.opened(HERE, name, ahead).join(' '));
}

t.test('name sequences', async (t) => {
  t.test('the third name of a sequence shows what comes next', async (t) => {
    t.same(say(['a-1', 'a-2', 'a-3']), ['', '', 'a-4 a-5']);
    t.same(say(['f-008.tar', 'f-009.tar', 'f-010.tar']), ['', '', 'f-011.tar f-012.tar'], 'with their zeros');
    t.same(say(['f8', 'f9', 'f10']), ['', '', 'f11 f12'], 'and without');
    t.same(
      say(['x-0-of-4', 'x-0-of-5', 'x-0-of-6']),
      ['', '', 'x-0-of-7 x-0-of-8'],
      'the last number counts',
    );
  });

  t.test('steps are found, also downwards to the end', async (t) => {
    t.same(say(['s10', 's14', 's18']).at(-1), 's22 s26');
    t.same(say(['s004', 's003', 's002'], { ahead: 5 }).at(-1), 's001 s000');
  });

  t.test(
    'processes that share a directory are told apart from others, and together make small steps',
    async (t) => {
      t.same(say(['s0', 's100', 's4', 's104', 's8', 's108', 's12']).at(-1), 's16 s20', 'four among others');
      t.same(say(['s1', 's0', 's2', 's3', 's5', 's4', 's6']).at(-1), 's7 s8');
    },
  );

  t.test('shuffled opens, and opens of one file, are no sequence', async (t) => {
    const prng = seededPrng(3);
    const names = Array.from({ length: 2_000 }, () => `f${prng.below(100_000)}`);
    const said = say(names).filter(Boolean).length;
    t.ok(said < 5, `${said} of 2,000`);
    t.same(say(['f7', 'f7', 'f7', 'f7']), ['', '', '', '']);
    t.same(say(['no', 'number', 'here']), ['', '', '']);
    t.same(say([`f${'9'.repeat(30)}`, `f${'9'.repeat(30)}`]), ['', '']);
  });

  t.test('directories and shapes of names are apart', async (t) => {
    const sequences = new NameSequences();
    sequences.opened(HERE, 'a1', 2);
    sequences.opened(THERE, 'a2', 2);
    sequences.opened(HERE, 'b2', 2);
    t.same(sequences.opened(HERE, 'a3', 2), []);
    sequences.opened(HERE, 'a2', 2);
  });
});

t.test('listing sequences', async (t) => {
  t.test('the third open that follows the last one goes on with a sequence', async (t) => {
    const sequences = new ListingSequences();
    const order = ['ape', 'bear', 'cat', 'dog'];
    const said = order.map((name, at) => {
      const isFollowed = sequences.opened(HERE, name);
      if (at + 1 < order.length) sequences.follows(HERE, { name, next: order[at + 1]! });
      return isFollowed;
    });
    t.same(said, [false, false, true, true]);
    t.equal(sequences.opened(HERE, 'elk'), false, 'nobody said that it follows');
  });
});
