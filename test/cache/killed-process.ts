/** Run by `kill.test.ts`: reads and fills without end, in an order of its own, until it is killed. */
import { pino } from 'pino';
import { openNvmeCache } from '../../cache/nvme-cache.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { FakeTier, trueBytes } from './fake-tier.ts';
import { KILL_BLOCK, KILL_CAPACITY, KILL_FILES, killSource } from './kill-plan.ts';

const [directory, seed] = process.argv.slice(2);
const prng = seededPrng(Number(seed));
const cache = await openNvmeCache({
  directory: directory!,
  capacityBytes: KILL_CAPACITY,
  blockBytes: KILL_BLOCK,
  tier: new FakeTier(),
  clock: systemClock,
  logger: pino({ level: 'silent' }),
  metrics: createMetrics(),
});

async function work(): Promise<void> {
  for (;;) {
    const source = killSource(prng.below(KILL_FILES));
    const handle = cache.open({ source, inode: 1n as InodeNumber, path: `/${source.objectKey}` });
    const offset = prng.below(source.sizeBytes);
    if (prng.below(2) === 0) await handle.fill(0, source.sizeBytes, { priority: 'demand' });
    const bytes = await handle.read(offset, 50_000);
    if (!trueBytes(source, offset, 50_000).equals(bytes)) process.stdout.write('wrong\n');
    handle.close();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

process.stdout.write('ready\n');
await Promise.all([work(), work(), work()]);
