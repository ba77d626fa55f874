/** The first bytes of a fill serve readers before the blob has them, and nobody else. */
import t from 'tap';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

const LEAD = 4096;

async function prepare(t: Parameters<typeof openFixture>[0], blocks = 4) {
  const { cache, tier } = await openFixture(t);
  const source = sourceOf(1, blocks * BLOCK);
  const handle = openVersion(cache, source);
  t.teardown(() => handle.close());
  tier.hold = true;
  const settled: string[] = [];
  const read = async (offset: number, length: number): Promise<void> => {
    const bytes = await handle.read(offset, length);
    settled.push(trueBytes(source, offset, length).equals(bytes) ? `${offset}` : `${offset} WRONG`);
  };
  return { handle, tier, source, read, settled };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('cache serves readers from the lead of a fill while the blob has nothing', async (t) => {
  t.comment(
    '4. A reader never receives bytes that belong to no committed version of the file, whatever fails.',
  );
  const { tier, source, read, settled } = await prepare(t);
  const reads = [read(0, 100), read(1000, LEAD - 1000), read(LEAD - 1, 2)];
  await tier.untilHeld(1);
  const [fill] = tier.held;
  fill!.options.onLead?.(trueBytes(source, 0, LEAD));
  await Promise.all(reads.slice(0, 2));
  await read(50, 100);
  t.strictSame(settled, ['0', '1000', '50'], 'who needs more than the lead waits for the blob');
  fill!.give(2 * LEAD);
  await Promise.all(reads);
  await read(0, 2 * LEAD);
  fill!.finish();
  await turn();
  await read(0, BLOCK);
  t.strictSame(settled, ['0', '1000', '50', `${LEAD - 1}`, '0', '0']);
});

t.test('cache takes no lead for a range that begins before it', async (t) => {
  const { tier, source, read, settled } = await prepare(t);
  const first = read(0, 10);
  await tier.untilHeld(1);
  tier.held[0]!.finish();
  await first;
  const across = read(BLOCK - 10, 20);
  await tier.untilHeld(2);
  tier.held[1]!.options.onLead?.(trueBytes(source, BLOCK, LEAD));
  await turn();
  t.equal(settled.length, 1);
  tier.held[1]!.give(BLOCK + LEAD);
  await across;
  t.strictSame(settled, ['0', `${BLOCK - 10}`]);
  tier.held[1]!.finish();
});

t.test('cache forgets the lead of a fill that failed, and tells the failure to who had none', async (t) => {
  const { handle, tier, source, read, settled } = await prepare(t);
  const early = read(0, 10);
  await tier.untilHeld(1);
  tier.held[0]!.options.onLead?.(trueBytes(source, 0, LEAD));
  await early;
  const late = t.rejects(handle.read(0, 2 * LEAD), { message: 'gone' });
  await turn();
  tier.held[0]!.fail(new Error('gone'));
  await tier.untilHeld(2);
  tier.held[1]!.fail(new Error('gone'));
  await late;
  tier.held[1]!.options.onLead?.(Buffer.alloc(LEAD, 'x'));
  const again = read(0, 10);
  await tier.untilHeld(3);
  tier.held[2]!.finish();
  await again;
  t.strictSame(settled, ['0', '0']);
});
