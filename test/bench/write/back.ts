/** Write-back against the plain file system below the cache: what a program waits for is the disk alone. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { alternate } from '../read/context.ts';
import type { Satellite } from '../read/mounts.ts';
import type { Row } from '../read/figures.ts';
import type { Stage } from '../read/stage.ts';
import { emptyBucket, type WriteContext, type WriteMeasure } from './context.ts';
import { loadBytes, loadFiles, type WriteLoad, writeLoad } from './writers.ts';

const MIB = 1024 ** 2;
const BACK = ['--write-mode', 'back'];

function bigLoad({ isQuick }: Stage): WriteLoad {
  return { writers: 4, files: 1, fileBytes: isQuick ? 16 * MIB : 2048 * MIB, sync: true };
}

export function smallLoad({ isQuick }: Stage): WriteLoad {
  return { writers: 4, files: isQuick ? 50 : 2_500, fileBytes: 10_000, sync: false };
}

/** Of one run: no two have the same. */
function runDirectory(root: string): string {
  const directory = path.join(root, `run-${randomUUID()}`);
  fs.mkdirSync(directory);
  return directory;
}

/** Removes what a run made; what has not converged yet is dropped. */
async function remove({ stage }: WriteContext, directory: string): Promise<void> {
  await stage.run('rm', ['-rf', directory]);
}

/** Seconds of the load on the mount and on the plain file system, in turn, each in a directory of its own. */
async function againstNative(
  context: WriteContext,
  load: WriteLoad,
): Promise<{ readonly perigee: number[]; readonly native: number[] }> {
  const { stage, perigee } = context;
  const satellite = await perigee.mount({ flags: BACK });
  const native = stage.place('native');
  const side = async (root: string, after: () => Promise<void>): Promise<number> => {
    const directory = runDirectory(root);
    await stage.dropCaches();
    const seconds = await writeLoad(directory, load);
    await remove(context, directory);
    await after();
    return seconds;
  };
  const values = await alternate(stage.runs, {
    perigee: () => side(satellite.mountpoint, () => satellite.flush()),
    native: () => side(native, async () => undefined),
  });
  await satellite.unmount();
  await emptyBucket(context);
  return values;
}

const ratesOf = (seconds: readonly number[], amount: number): number[] =>
  seconds.map((value) => amount / value);

export const back: WriteMeasure = {
  name: 'back',
  about: 'write-back: 4 writers, write, fsync and close, against the native file system',
  async run(context) {
    const { stage } = context;
    stage.tell('write-back of big files');
    const load = bigLoad(stage);
    const seconds = await againstNative(context, load);
    const gigabytes = loadBytes(load) / 1e9;
    return [
      {
        measure: `write-back: ${load.writers} writers x ${load.fileBytes / MIB} MiB, write + fsync + close`,
        unit: 'GB/s',
        better: 'higher',
        perigee: { name: 'perigee', values: ratesOf(seconds.perigee, gigabytes) },
        others: [{ name: 'the native file system', values: ratesOf(seconds.native, gigabytes) }],
        must: 0.95,
      },
    ];
  },
};

export const smallBack: WriteMeasure = {
  name: 'small-back',
  about: 'write-back: create, write 10 kB and close, against the native file system',
  async run(context) {
    const { stage } = context;
    stage.tell('write-back of small files');
    const load = smallLoad(stage);
    const seconds = await againstNative(context, load);
    const files = load.writers * load.files;
    return [
      {
        measure: `write-back: create + write 10 kB + close of ${files} files`,
        unit: 'files/s',
        better: 'higher',
        perigee: { name: 'perigee', values: ratesOf(seconds.perigee, files) },
        others: [{ name: 'the native file system', values: ratesOf(seconds.native, files) }],
        must: 0.3,
      },
    ];
  },
};

/** One writer, while what another has just closed converges, and while nothing does. */
export const converging: WriteMeasure = {
  name: 'converging',
  about: 'what a writer loses while earlier files converge',
  async run(context) {
    const { stage, perigee } = context;
    stage.tell('writing while converging');
    const satellite = await perigee.mount({ flags: BACK });
    const load: WriteLoad = {
      writers: 1,
      files: 1,
      fileBytes: stage.isQuick ? 16 * MIB : 1024 * MIB,
      sync: true,
    };
    const write = async (isConverging: boolean): Promise<number> => {
      const directory = runDirectory(satellite.mountpoint);
      const before = path.join(directory, 'before');
      fs.mkdirSync(before);
      await satellite.flush();
      await stage.dropCaches();
      if (isConverging) await writeLoad(before, load);
      const seconds = await writeLoad(directory, load);
      await remove(context, directory);
      return seconds;
    };
    const values = await alternate(stage.runs, {
      ours: () => write(true),
      alone: () => write(false),
    });
    await satellite.unmount();
    await emptyBucket(context);
    const gigabytes = loadBytes(load) / 1e9;
    return [
      {
        measure: `write-back of ${load.fileBytes / MIB} MiB while as much converges`,
        unit: 'GB/s',
        better: 'higher',
        perigee: { name: 'perigee', values: ratesOf(values.ours, gigabytes) },
        others: [{ name: 'while nothing converges', values: ratesOf(values.alone, gigabytes) }],
        must: 0.9,
      },
    ];
  },
};

/** Both names of the files of a load are there at once, or neither: it costs the same for all of them. */
export const rename: WriteMeasure = {
  name: 'rename',
  about: 'rename of a directory, against one with a hundredth of the files',
  async run(context) {
    const { stage, perigee } = context;
    stage.tell('rename');
    const satellite = await perigee.mount({ flags: BACK });
    const many = smallLoad(stage);
    const few = { ...many, files: Math.ceil(many.files / 100) };
    const [large, little] = [await fill(satellite, 'many', many), await fill(satellite, 'few', few)];
    await satellite.flush();
    let turns = 0;
    const move = async (directory: string): Promise<number> => {
      const [from, to] =
        turns++ % 4 < 2 ? [directory, `${directory}-moved`] : [`${directory}-moved`, directory];
      const startedMs = performance.now();
      fs.renameSync(from, to);
      return performance.now() - startedMs;
    };
    const values = await alternate(2 * stage.runs, { large: () => move(large), little: () => move(little) });
    await satellite.unmount();
    await emptyBucket(context);
    const row: Row = {
      measure: `rename of a directory of ${many.writers * many.files} files`,
      unit: 'ms',
      better: 'lower',
      perigee: { name: 'perigee', values: values.large },
      others: [{ name: `of ${few.writers * few.files} files`, values: values.little }],
      must: 2,
    };
    return [row];
  },
};

async function fill({ mountpoint }: Satellite, name: string, load: WriteLoad): Promise<string> {
  const directory = path.join(mountpoint, name);
  fs.mkdirSync(directory);
  await writeLoad(directory, load);
  const made = fs.readdirSync(directory).length;
  if (made !== loadFiles(load).flat().length) throw new Error(`${made} files were made`);
  return directory;
}
