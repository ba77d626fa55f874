/** Reads of what no tier has yet: from a Ceph gateway, against the bare SDK and against what Debian has for the same job. */
import path from 'node:path';
import { alternate, type BenchContext, type Measure } from './context.ts';
import { sizes } from './dataset.ts';
import type { Row, Side } from './figures.ts';
import type { Mounted } from './mounts.ts';
import { firstByteMs, readFiles, readSequentially } from './readers.ts';
import { bareDownloadSeconds, rangedGetsMs } from './sdk.ts';
import { until } from './stage.ts';

const FILE_READERS = 8;
const SLOW_MS = 20;
const FIRST_BYTES_MIN = 9;
const MEMORY_BYTES_MAX = 512 * 1024 * 1024;

interface ColdResult {
  readonly perigee: Side;
  readonly peers: readonly Side[];
  readonly bare: Readonly<Record<string, number[]>>;
  readonly peakMemory: number[];
}

/** Mounts each side anew for every run, measures, unmounts; perigee first, then the peers, then perigee again. */
async function coldRuns(
  { stage, perigee, peers }: BenchContext,
  options: {
    readonly endpoint: string;
    readonly read: (mountpoint: string) => Promise<number>;
    readonly bare?: Readonly<Record<string, () => Promise<number>>>;
  },
): Promise<ColdResult> {
  const { endpoint, read, bare = {} } = options;
  const peakMemory: number[] = [];
  const onMount = async (mounted: Mounted, atEnd?: () => Promise<void>): Promise<number> => {
    try {
      await stage.dropCaches();
      const value = await read(mounted.mountpoint);
      await atEnd?.();
      return value;
    } finally {
      await mounted.unmount();
    }
  };
  const usable = peers.filter(({ missing }) => missing === undefined);
  const sides: Record<string, () => Promise<number>> = {
    perigee: async () => {
      const satellite = await perigee.mount({ endpoint });
      return onMount(satellite, async () => void peakMemory.push(await satellite.peakMemoryBytes()));
    },
    ...bare,
  };
  for (const peer of usable) sides[peer.name] = async () => onMount(await peer.mount(endpoint));
  const values = await alternate(stage.runs, sides);
  return {
    perigee: { name: 'perigee', values: values.perigee! },
    peers: peers.map(({ name, missing }) => ({
      name,
      values: values[name] ?? [],
      ...(missing === undefined ? {} : { note: `${name} is missing: ${missing}` }),
    })),
    bare: Object.fromEntries(Object.keys(bare).map((name) => [name, values[name]!])),
    peakMemory,
  };
}

function memoryRow(measure: string, bytes: readonly number[]): Row {
  return {
    measure: `peak memory of the satellite, ${measure}`,
    unit: 'MiB',
    better: 'lower',
    perigee: { name: 'perigee', values: bytes.map((value) => value / 1024 ** 2) },
    others: [{ name: 'the limit', values: [MEMORY_BYTES_MAX / 1024 ** 2] }],
    must: 1,
  };
}

export const cold: Measure = {
  name: 'cold',
  about: 'cold sequential read of the big file against a bare SDK download and the peers',
  async run(context) {
    const { stage, dataset } = context;
    stage.tell('cold sequential');
    const measure = `cold sequential read of ${dataset.big.bytes / 1024 ** 2} MiB`;
    const bytesPerSecond = async (seconds: Promise<number>): Promise<number> =>
      dataset.big.bytes / 1e9 / (await seconds);
    const file = path.join(stage.directory, 'bare-download');
    const result = await coldRuns(context, {
      endpoint: dataset.endpoint,
      read: (mountpoint) => readSequentially(stage, path.join(mountpoint, dataset.big.key)),
      bare: {
        'bare SDK download into a file': () => bytesPerSecond(bareDownloadSeconds(context, file)),
        'bare SDK download into nothing': () => bytesPerSecond(bareDownloadSeconds(context, '-')),
      },
    });
    const base = { measure, unit: 'GB/s', better: 'higher', perigee: result.perigee } as const;
    const [intoFile, intoNothing] = Object.entries(result.bare).map(([name, values]) => ({ name, values }));
    return [
      { ...base, others: [intoFile!], must: 0.9 },
      { ...base, measure: `${measure} `, others: [intoNothing!] },
      { ...base, measure: `${measure}, peers`, others: result.peers, must: 1 },
      memoryRow('cold sequential', result.peakMemory),
    ];
  },
};

export const coldSlow: Measure = {
  name: 'cold-slow',
  about: `the same with ${SLOW_MS} ms added to every request`,
  async run(context) {
    const { stage, dataset } = context;
    stage.tell(`cold sequential, +${SLOW_MS} ms`);
    const result = await coldRuns(context, {
      endpoint: await dataset.slowEndpoint(SLOW_MS),
      read: (mountpoint) => readSequentially(stage, path.join(mountpoint, dataset.big.key)),
    });
    return [
      {
        measure: `cold sequential read, +${SLOW_MS} ms on every request`,
        unit: 'GB/s',
        better: 'higher',
        perigee: result.perigee,
        others: result.peers,
        must: 1.5,
      },
      memoryRow(`cold sequential, +${SLOW_MS} ms`, result.peakMemory),
    ];
  },
};

export const coldFiles: Measure = {
  name: 'cold-files',
  about: 'cold read of many small files against the peers',
  async run(context) {
    const { stage, dataset } = context;
    const set = await dataset.files(sizes(stage.isQuick).coldFiles);
    stage.tell('cold files');
    const result = await coldRuns(context, {
      endpoint: dataset.endpoint,
      read: (root) => readFiles(set, { root, readers: FILE_READERS }),
    });
    return [
      {
        measure: `cold read of ${set.count} files of 10 kB, ${FILE_READERS} readers`,
        unit: 'files/s',
        better: 'higher',
        perigee: result.perigee,
        others: result.peers,
        must: 2,
      },
      memoryRow('cold files', result.peakMemory),
    ];
  },
};

export const firstByte: Measure = {
  name: 'first-byte',
  about: 'from open to the first byte of the cold big file, against one ranged GET',
  async run(context) {
    const { stage, dataset, perigee } = context;
    stage.tell('first byte');
    const satellite = await perigee.mount();
    const big = path.join(satellite.mountpoint, dataset.big.key);
    // The file is cold, not the satellite: it has fetched something before.
    await firstByteMs(stage, path.join(satellite.mountpoint, dataset.greeting));
    const values = await alternate(Math.max(FIRST_BYTES_MIN, stage.runs), {
      async perigee() {
        await until('nothing is cached', async () => {
          await satellite.evict();
          return (await satellite.cachedBytes()) === 0;
        });
        await stage.dropCaches();
        return firstByteMs(stage, big);
      },
      get: () => rangedGetsMs(context),
    });
    await satellite.unmount();
    return [
      {
        measure: 'first byte of the cold big file',
        unit: 'ms',
        better: 'lower',
        perigee: { name: 'perigee', values: values.perigee },
        others: [{ name: 'one ranged GET of 128 KiB, connected', values: values.get }],
        must: 1.5,
      },
    ];
  },
};

export const restart: Measure = {
  name: 'restart',
  about: 'bytes fetched by a second mount that finds its cache again',
  async run({ stage, dataset, perigee }) {
    stage.tell('second mount');
    const cacheDirectory = stage.place('kept-cache');
    const first = await perigee.mount({ cacheDirectory });
    await readSequentially(stage, path.join(first.mountpoint, dataset.big.key));
    await until('the big file is cached', async () => (await first.cachedBytes()) >= dataset.big.bytes);
    await first.unmount();
    await stage.dropCaches();
    const second = await perigee.mount({ cacheDirectory });
    await readSequentially(stage, path.join(second.mountpoint, dataset.big.key));
    const fetched = await second.fetchedBytes();
    await second.unmount();
    return [
      {
        measure: 'second mount after restart: bytes fetched',
        unit: 'B',
        better: 'lower',
        perigee: { name: 'perigee', values: [fetched] },
        others: [{ name: 'the limit', values: [0] }],
        must: 0,
      },
    ];
  },
};
