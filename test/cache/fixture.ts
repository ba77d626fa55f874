/** A cache over a fake tier in a directory of its own, closed and removed when the test ends. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { BlockCache, CacheHandle } from '../../cache/block-cache.ts';
import { type NvmeBlockCache, type NvmeCacheOptions, openNvmeCache } from '../../cache/nvme-cache.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { KIB, MIB } from '../../lib/base/limits.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import { FakeTier } from './fake-tier.ts';

export const BLOCK = 64 * KIB;

interface Teardown {
  teardown(run: () => unknown): void;
}

export function temporaryDirectory(t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'perigee-cache-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface Fixture {
  readonly cache: NvmeBlockCache;
  readonly tier: FakeTier;
  readonly directory: string;
}

export async function openFixture(t: Teardown, options: Partial<NvmeCacheOptions> = {}): Promise<Fixture> {
  const directory = options.directory ?? temporaryDirectory(t);
  const tier = (options.tier as FakeTier | undefined) ?? new FakeTier();
  const cache = await openNvmeCache({
    capacityBytes: 64 * MIB,
    blockBytes: BLOCK,
    clock: systemClock,
    logger: pino({ level: process.env['PERIGEE_TEST_LOG'] ?? 'silent' }),
    metrics: createMetrics(),
    ...options,
    tier,
    directory,
  });
  t.teardown(() => cache.close());
  return { cache, tier, directory };
}

export function openVersion(cache: BlockCache, source: VersionSource): CacheHandle {
  return cache.open({ source, inode: 42n as InodeNumber, path: `/data/${source.objectKey}` });
}
