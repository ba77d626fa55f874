/** The driver by itself: what it opens, fills, holds and lets go, over a fake tier that answers when it is told to. */
import { pino } from 'pino';
import t from 'tap';
import type { BlockCache, CacheHandle, OpenVersion } from '../../cache/block-cache.ts';
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import { MIB } from '../../lib/base/limits.ts';
import { OpenRecorder } from '../../lib/prefetch/open-recorder.ts';
import { Outcomes } from '../../lib/prefetch/outcomes.ts';
import { Prefetcher } from '../../lib/prefetch/prefetcher.ts';
import type { WantedFile } from '../../lib/prefetch/prefetch.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { ManualClock } from '../cache/manual-clock.ts';

const SIZE = MIB;
const HOW = { lane: 'p', settings: { priority: 0, concurrency: 4, bytesPerSecond: undefined } };

interface Fill {
  readonly version: VersionId;
  readonly signal: AbortSignal;
  there(): Promise<void>;
  fail(error: unknown): Promise<void>;
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function setUp() {
  const clock = new ManualClock();
  const metrics = createMetrics();
  const outcomes = new Outcomes(metrics);
  const fills: Fill[] = [];
  const events: string[] = [];
  const present = new Map<VersionId, number>();
  const open = ({ source, isUse, isExpected }: OpenVersion): CacheHandle => {
    const { version } = source;
    events.push(`open ${Number.parseInt(version, 16)} ${isUse} ${isExpected}`);
    const handle = {
      source,
      fill: (_offset: number, _length: number, { signal }: { signal: AbortSignal }) => {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        fills.push({
          ...{ version, signal },
          there: () => (present.set(version, SIZE), resolve(), settle()),
          fail: (error) => (reject(error), settle()),
        });
        return promise;
      },
      close: () => events.push(`close ${Number.parseInt(version, 16)}`),
    };
    return Object.defineProperty(handle, 'cachedBytes', {
      get: () => present.get(version) ?? 0,
    }) as unknown as CacheHandle;
  };
  const prefetcher = new Prefetcher({
    ...{ blockBytes: MIB, shareBytes: 8 * MIB, requestsMax: 4, bytesPerSecond: undefined },
    cache: { open } as unknown as BlockCache,
    ...{ outcomes, clock, logger: pino({ level: 'silent' }), metrics },
    isWrittenHere: (inode) => inode === 99n,
    onSettled: (claim, { result }) => events.push(`${claim} ${result}`),
  });
  return { prefetcher, clock, outcomes, fills, taken: () => events.splice(0) };
}

function fileOf(inode: number, version: number): WantedFile {
  const id = version.toString(16).padStart(32, '0') as VersionId;
  const source = { version: id, exportName: 'data', objectKey: '', objectVersion: undefined, entityTag: '' };
  return { inode: BigInt(inode) as InodeNumber, path: `f${inode}`, source: { ...source, sizeBytes: SIZE } };
}

t.test('what is there is held until a program opens it', async (t) => {
  const { prefetcher, fills, outcomes, taken } = setUp();
  const file = fileOf(5, 1);
  prefetcher.want(file, HOW);
  prefetcher.want(file, { ...HOW, claim: 'other' });
  t.same(taken(), ['open 1 false true']);
  t.equal(fills.length, 1, 'one fetch for both');
  await fills[0]!.there();
  t.same(taken(), ['p there', 'other there']);
  prefetcher.want(file, HOW);
  t.same(taken(), ['p there'], 'it is known that it is there');
  prefetcher.opened({ source: file.source, cachedBytes: () => SIZE });
  t.same(taken(), ['close 1']);
  t.same(outcomes.all(), { p: { fetched: SIZE, used: SIZE, wasted: 0, late: 0 } });
});

t.test('a version that its inode has no more is given up', async (t) => {
  const { prefetcher, fills, taken } = setUp();
  prefetcher.want(fileOf(5, 1), HOW);
  prefetcher.want(fileOf(5, 2), HOW);
  t.same(taken(), ['open 1 false true', 'close 1', 'p cancelled', 'open 2 false true']);
  t.equal(fills[0]!.signal.aborted, true);
  await fills[0]!.fail(new Error('aborted'));
  await fills[1]!.there();
  t.same(taken(), ['p there'], 'the late end of the first changes nothing');
  prefetcher.superseded(5n as InodeNumber, fileOf(5, 2).source.version);
  t.same(taken(), [], 'it is still that one');
});

t.test('a store that is away is asked again, one that has lost the version is not', async (t) => {
  const { prefetcher, clock, fills, taken } = setUp();
  prefetcher.want(fileOf(5, 1), HOW);
  await fills[0]!.fail(new TierError('unavailable', 'away'));
  t.equal(fills.length, 1);
  clock.advance(1_000);
  t.equal(fills.length, 2);
  await fills[1]!.fail(new TierError('stale', 'replaced'));
  t.same(taken(), ['open 1 false true', 'close 1', 'p failed']);
});

t.test('nothing is left open at the end, and nothing begins after it', async (t) => {
  const { prefetcher, fills, taken } = setUp();
  prefetcher.want(fileOf(5, 1), HOW);
  prefetcher.close();
  t.equal(fills[0]!.signal.aborted, true);
  prefetcher.want(fileOf(6, 2), HOW);
  t.same(taken(), ['open 1 false true', 'close 1']);
});

t.test('a file that is written on this host is not fetched', async (t) => {
  const { prefetcher, fills, taken } = setUp();
  prefetcher.want(fileOf(99, 1), HOW);
  t.same(taken(), ['p there']);
  t.equal(fills.length, 0);
});

t.test('a recording has each file once, in order, and of its directory alone', async (t) => {
  const recorder = new OpenRecorder();
  recorder.opened(() => {
    throw new Error('a path is made for nobody');
  });
  const [all, some] = [recorder.start(''), recorder.start('train')];
  for (const path of ['train/b', 'other', 'train/a', 'train/b', 'training/x']) recorder.opened(() => path);
  t.same(recorder.stop(some), { paths: ['train/b', 'train/a'], isCut: false });
  t.same(recorder.stop(all).paths, ['train/b', 'other', 'train/a', 'training/x']);
  t.throws(() => recorder.stop(all), { code: 'no-such-job' });
});
