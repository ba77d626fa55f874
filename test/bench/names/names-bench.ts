/**
 * `npm run bench -- names`: what names under leases cost a mount, against the plain folder that it shows, and what they
 * cost the origin.
 */
import fs from 'node:fs';
import path from 'node:path';
import { alternate } from '../read/context.ts';
import { compare, type Row, tableOf } from '../read/figures.ts';
import { fileName } from '../read/file-name.ts';
import { readFiles } from '../read/readers.ts';
import { machineLine, onStage, type Stage } from '../read/stage.ts';
import { mountNames, type NamesMount } from './names-mount.ts';
import { originFigures } from './origin-figures.ts';

const READERS = 4;
const FILES = 'files';
const NAMES = 'names';

export interface NamesBenchOptions {
  readonly runs: number;
  readonly quick: boolean;
  readonly json: boolean;
  /** On the disk that is measured. */
  readonly dir: string | undefined;
}

interface Sizes {
  readonly directories: number;
  readonly namesEach: number;
  readonly files: number;
  readonly fileBytes: number;
}

/** Resolves with false if something was not met. */
export function runNamesBench(options: NamesBenchOptions): Promise<boolean> {
  return onStage(options, async (stage) => {
    const sizes = options.quick
      ? { directories: 50, namesEach: 20, files: 200, fileBytes: 100_000 }
      : { directories: 1_000, namesEach: 100, files: 10_000, fileBytes: 100_000 };
    stage.tell('making the folder');
    const mount = await mountNames(stage, makeFolder(stage, sizes));
    const rows = [...(await namesRows(stage, mount, sizes)), await filesRow(stage, mount, sizes)];
    stage.tell('the origin');
    const figures = await originFigures({ quick: options.quick });
    const machine = machineLine(stage.directory);
    if (options.json) console.log(JSON.stringify({ machine, runs: stage.runs, rows, figures }, undefined, 2));
    else {
      console.log(`${machine}\nmedians of ${stage.runs} runs\n\n${tableOf(rows)}\n\norigin:`);
      for (const { figure, value, unit } of figures)
        console.log(`  ${figure}: ${value.toPrecision(3)} ${unit}`);
    }
    return rows.flatMap((row) => compare(row)).every(({ verdict }) => verdict === 'yes');
  });
}

function makeFolder(stage: Stage, sizes: Sizes): string {
  const folder = stage.place('folder');
  for (let directory = 0; directory < sizes.directories; directory++) {
    const at = path.join(folder, NAMES, String(directory).padStart(4, '0'));
    fs.mkdirSync(at, { recursive: true });
    for (let name = 0; name < sizes.namesEach; name++) fs.writeFileSync(path.join(at, `${name}.bin`), '');
  }
  const content = Buffer.alloc(sizes.fileBytes, 'perigee');
  for (let index = 0; index < sizes.files; index++) {
    const file = path.join(folder, FILES, fileName(index));
    fs.mkdirSync(path.dirname(file), { recursive: true });
    content.writeUInt32LE(index);
    fs.writeFileSync(file, content);
  }
  return folder;
}

async function namesRows(stage: Stage, mount: NamesMount, sizes: Sizes): Promise<Row[]> {
  const names = sizes.directories * sizes.namesEach;
  const folderOf = (root: string): string => path.join(root, NAMES);
  const find = async (root: string): Promise<number> => {
    const startedMs = performance.now();
    await stage.run('find', [folderOf(root)]);
    return names / (performance.now() - startedMs);
  };
  stage.commands.add('find M/names');
  stage.tell('the first find');
  for (const root of [mount.native, mount.mountpoint]) await find(root);
  const asked = (): Promise<number> => mount.metric('perigee_name_answers_total', /kept|once/);
  const before = await asked();
  const finds = await alternate(stage.runs, {
    ours: () => find(mount.mountpoint),
    theirs: () => find(mount.native),
  });
  const paths = namePaths(sizes);
  const stats = await alternate(stage.runs, {
    ours: async () => {
      // The kernel's entries last for a term: they are looked up before, so that this is about what is cached.
      statAll(folderOf(mount.mountpoint), paths);
      return statAll(folderOf(mount.mountpoint), paths);
    },
    theirs: async () => statAll(folderOf(mount.native), paths),
  });
  const rate = { unit: 'names/ms', better: 'higher' } as const;
  const few = { unit: '', better: 'lower' } as const;
  const label = `${names.toLocaleString('en-US')} names in ${sizes.directories.toLocaleString('en-US')} directories`;
  return [
    {
      measure: `find, second time, ${label}`,
      ...rate,
      perigee: { name: 'perigee', values: finds.ours },
      others: [{ name: 'the folder', values: finds.theirs }],
      must: 0.5,
    },
    {
      measure: `stat of cached names, ${label}`,
      ...rate,
      perigee: { name: 'perigee', values: stats.ours },
      others: [{ name: 'the folder', values: stats.theirs }],
      must: 0.9,
    },
    {
      measure: 'questions to the origin in all passes but the first',
      ...few,
      perigee: { name: 'perigee', values: [(await asked()) - before] },
      others: [{ name: 'at most', values: [0.5] }],
      must: 1,
    },
    {
      measure: `leases held for ${label}`,
      ...few,
      perigee: { name: 'perigee', values: [await mount.leases()] },
      others: [{ name: 'at most', values: [10] }],
      must: 1,
    },
  ];
}

function namePaths(sizes: Sizes): string[] {
  const directories = Array.from({ length: sizes.directories }, (_, each) => String(each).padStart(4, '0'));
  return directories.flatMap((directory) =>
    Array.from({ length: sizes.namesEach }, (_, name) => `${directory}/${name}.bin`),
  );
}

function statAll(root: string, paths: readonly string[]): number {
  const startedMs = performance.now();
  for (const each of paths) fs.lstatSync(`${root}/${each}`);
  return paths.length / (performance.now() - startedMs);
}

async function filesRow(stage: Stage, mount: NamesMount, sizes: Sizes): Promise<Row> {
  const set = { folder: FILES, count: sizes.files, fileBytes: sizes.fileBytes };
  stage.tell('filling the cache');
  await readFiles(set, { root: mount.mountpoint, readers: READERS });
  const seconds = (): Promise<number> => mount.metric('perigee_fuse_request_seconds_sum');
  const requests = (): Promise<number> => mount.metric('perigee_fuse_requests_total');
  const [secondsBefore, requestsBefore] = [await seconds(), await requests()];
  const values = await alternate(stage.runs, {
    ours: () => readFiles(set, { root: mount.mountpoint, readers: READERS }),
    theirs: () => readFiles(set, { root: mount.native, readers: READERS }),
  });
  const files = sizes.files * stage.runs;
  const perFile = ((await requests()) - requestsBefore) / files;
  const microseconds = (((await seconds()) - secondsBefore) / files) * 1e6;
  return {
    measure: `open + read + close of ${sizes.files.toLocaleString('en-US')} cached files of 100 kB, ${READERS} readers`,
    unit: 'files/s',
    better: 'higher',
    perigee: { name: 'perigee', values: values.ours },
    others: [{ name: 'the folder', values: values.theirs }],
    must: 0.35,
    note: `${perFile.toFixed(1)} requests and ${microseconds.toFixed(0)} µs in the satellite a file; the rest is the kernel and the reader`,
  };
}
