/** Reads of what the NVMe tier has, against the same bytes in native files on the same disk. */
import path from 'node:path';
import { alternate, type BenchContext, type Measure } from './context.ts';
import { sizes } from './dataset.ts';
import type { Row } from './figures.ts';
import { readFiles, readRandomly, readSequentially, scanMapped } from './readers.ts';
import { until } from './stage.ts';

const FILE_READERS = 4;
const NATIVE = 'native file';
/** The portable driver is slow enough to be timed in one pass, and in page faults too slow for many. */
const PASSES_IN_MEMORY = { kernel: 10, portable: 1 } as const;

type DriverName = keyof typeof PASSES_IN_MEMORY;

/** `must` below absent: reported only. */
interface WarmRow {
  readonly measure: string;
  readonly unit: string;
  readonly must: number;
  readonly keepsPageCache: boolean;
  /** @param passes over what lies in memory */
  readonly read: (context: BenchContext, file: string, passes: number) => Promise<number>;
}

const ROWS: readonly WarmRow[] = [
  {
    measure: 'warm sequential, page cache dropped',
    unit: 'GB/s',
    must: 0.95,
    keepsPageCache: false,
    read: ({ stage }, file) => readSequentially(stage, file),
  },
  {
    measure: 'warm sequential, page cache kept',
    unit: 'GB/s',
    must: 0.95,
    keepsPageCache: true,
    read: ({ stage }, file, passes) => readSequentially(stage, file, passes),
  },
  {
    measure: 'warm random 4 KiB, 1 reader',
    unit: 'reads/s',
    must: 0.9,
    keepsPageCache: false,
    read: ({ stage }, file) => readRandomly(stage, file, 1),
  },
  {
    measure: 'warm random 4 KiB, 4 readers',
    unit: 'reads/s',
    must: 0.9,
    keepsPageCache: false,
    read: ({ stage }, file) => readRandomly(stage, file, 4),
  },
  {
    measure: 'warm mmap scan, page cache dropped',
    unit: 'GB/s',
    must: 0.95,
    keepsPageCache: false,
    read: ({ stage }, file) => scanMapped(stage, file),
  },
  {
    measure: 'warm mmap scan, page cache kept',
    unit: 'GB/s',
    must: 0.95,
    keepsPageCache: true,
    read: ({ stage }, file, passes) => scanMapped(stage, file, passes),
  },
];

async function warmRows(context: BenchContext, driver: DriverName): Promise<readonly Row[]> {
  const { stage, dataset, perigee } = context;
  const label = driver === 'portable' ? ', portable driver' : '';
  const set = await dataset.files(sizes(stage.isQuick).warmFiles);
  const satellite = await perigee.mount({ driver });
  const big = path.join(satellite.mountpoint, dataset.big.key);
  await readSequentially(stage, big);
  await until('the big file is cached', async () => (await satellite.cachedBytes()) >= dataset.big.bytes);
  const rows: Row[] = [];
  for (const row of ROWS) {
    stage.tell(row.measure + label);
    const measured = async (file: string): Promise<number> => {
      await stage.dropCaches();
      if (row.keepsPageCache) await row.read(context, file, 1);
      return row.read(context, file, PASSES_IN_MEMORY[driver]);
    };
    const values = await alternate(stage.runs, {
      perigee: () => measured(big),
      native: () => measured(dataset.nativeBig()),
    });
    rows.push({
      measure: row.measure + label,
      unit: row.unit,
      better: 'higher',
      perigee: { name: 'perigee', values: values.perigee },
      others: [{ name: NATIVE, values: values.native }],
      ...(driver === 'portable' ? {} : { must: row.must }),
    });
  }
  stage.tell(`warm files${label}`);
  const filesOf = (root: string) => () => readFiles(set, { root, readers: FILE_READERS });
  const ours = filesOf(satellite.mountpoint);
  const native = filesOf(path.dirname(dataset.nativeFiles(set)));
  await ours();
  await native();
  const values = await alternate(stage.runs, { perigee: ours, native });
  rows.push({
    measure: `open + read + close of ${set.count} cached files of 100 kB, ${FILE_READERS} readers${label}`,
    unit: 'files/s',
    better: 'higher',
    perigee: { name: 'perigee', values: values.perigee },
    others: [{ name: NATIVE, values: values.native }],
    note: driver === 'portable' ? '' : 'the aim is a ratio of 0.3 as long as every lookup asks the origin',
  });
  await satellite.unmount();
  return rows;
}

export const warm: Measure = {
  name: 'warm',
  about: 'cached reads through the kernel driver against native files',
  run: (context) => warmRows(context, 'kernel'),
};

export const warmPortable: Measure = {
  name: 'warm-portable',
  about: 'the same through the portable driver',
  async run(context) {
    try {
      return await warmRows(context, 'portable');
    } catch (error) {
      const note = `not measured: ${String(error).split('\n')[0]}`;
      const perigee = { name: 'perigee', values: [], note };
      return [{ measure: 'warm, portable driver', unit: '', better: 'higher', perigee, others: [] }];
    }
  },
};
