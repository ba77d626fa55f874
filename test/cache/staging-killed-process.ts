/** Run by `staging-kill.test.ts`: writes, records and seals files without end, and says what was acknowledged. */
import { writeSync } from 'node:fs';
import { pino } from 'pino';
import { openNvmeCache } from '../../cache/nvme-cache.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { FakeTier, trueBytes } from './fake-tier.ts';
import { KILL_BLOCK, killSource } from './kill-plan.ts';
import { entryOf, sealingOf, writeOf } from './staged.ts';

const [directory, seed, first] = process.argv.slice(2);
const prng = seededPrng(Number(seed));
const { staging } = await openNvmeCache({
  directory: directory!,
  capacityBytes: 4096 * KILL_BLOCK,
  blockBytes: KILL_BLOCK,
  tier: new FakeTier(),
  clock: systemClock,
  logger: pino({ level: 'silent' }),
  metrics: createMetrics(),
});
// At once: what was said before a kill must be heard after it.
const say = (word: string, number: number): unknown => writeSync(1, `${word} ${number}\n`);
let next = Number(first);

async function work(): Promise<void> {
  for (;;) {
    const number = next++;
    const source = killSource(number);
    const bytes = trueBytes(source, 0, source.sizeBytes);
    const file = await staging.create(writeOf(number));
    const half = prng.below(bytes.length);
    await file.write(half, bytes.subarray(half));
    await file.write(0, bytes.subarray(0, half));
    const state = prng.below(2) === 0 ? 'closed' : 'synced';
    await file.record(entryOf(number, { state }), { durable: prng.below(4) === 0 });
    say('owed', number);
    if (prng.below(2) === 0) continue;
    say('ending', number);
    await file.record(entryOf(number, { state: 'committed' }), { durable: false });
    file.rest();
    if (prng.below(2) === 0) await staging.discard(file);
    else await staging.seal(file, sealingOf(file, { number, bytes, blockBytes: KILL_BLOCK }));
    say('ended', number);
  }
}

say('ready', 0);
await Promise.all([work(), work(), work()]);
