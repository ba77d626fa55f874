/** The programs that read, the same for every side: fio, and small processes that open, read and close many files. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { FileSet } from './dataset.ts';
import type { FileReaderAnswer, FileReaderTask } from './file-reader.ts';
import type { Stage } from './stage.ts';

const RANDOM_READS = 50_000;

interface FioReport {
  readonly jobs: readonly { readonly read: { readonly bw_bytes: number; readonly iops: number } }[];
}

async function fio(stage: Stage, args: readonly string[]): Promise<FioReport['jobs'][number]['read']> {
  // Without hints: the kernel does not hand them on to the file behind a passthrough one, and few programs give any.
  const plain = ['--fadvise_hint=0', '--readonly', '--invalidate=0', '--output-format=json'];
  const all = [...args, '--name=read', ...plain];
  stage.commands.add(`fio ${all.join(' ').replaceAll(/--filename=\S+/g, '--filename=F')}`);
  const text = await stage.run('fio', all);
  const report = JSON.parse(text.slice(text.indexOf('{'))) as FioReport;
  return report.jobs[0]!.read;
}

/** GB/s. One pass over memory is too short to be timed; several are read as one. */
export async function readSequentially(stage: Stage, file: string, passes = 1): Promise<number> {
  const loops = `--loops=${passes}`;
  const read = await fio(stage, [`--filename=${file}`, '--rw=read', '--bs=1M', '--ioengine=psync', loops]);
  return read.bw_bytes / 1e9;
}

/** GB/s, through page faults alone. */
export async function scanMapped(stage: Stage, file: string, passes = 1): Promise<number> {
  const loops = `--loops=${passes}`;
  const read = await fio(stage, [`--filename=${file}`, '--rw=read', '--bs=1M', '--ioengine=mmap', loops]);
  return read.bw_bytes / 1e9;
}

/** Reads of 4 KiB a second. */
export async function readRandomly(stage: Stage, file: string, readers: number): Promise<number> {
  const read = await fio(stage, [
    ...[
      `--filename=${file}`,
      '--rw=randread',
      '--bs=4k',
      '--ioengine=psync',
      '--norandommap',
      '--randseed=7',
    ],
    ...[`--number_ios=${Math.floor((stage.isQuick ? 2000 : RANDOM_READS) / readers)}`],
    ...[`--numjobs=${readers}`, '--thread', '--group_reporting'],
  ]);
  return read.iops;
}

/** Files opened, read whole and closed in a second, by processes that share the set. */
export async function readFiles(
  { folder, count, fileBytes }: FileSet,
  { root, readers }: { readonly root: string; readonly readers: number },
): Promise<number> {
  const children = Array.from({ length: readers }, () =>
    fork(path.join(import.meta.dirname, 'file-reader.ts')),
  );
  try {
    await Promise.all(children.map((child) => once(child, 'message')));
    const answers = children.map((child, first) => {
      const task: FileReaderTask = { root: path.join(root, folder), first, step: readers, count, fileBytes };
      child.send(task);
      return Promise.race([once(child, 'message'), once(child, 'exit')]);
    });
    const startedMs = performance.now();
    for (const answer of await Promise.all(answers)) {
      const { error } = answer[0] as FileReaderAnswer;
      if (error !== undefined) throw new Error(error);
    }
    return (count / (performance.now() - startedMs)) * 1000;
  } finally {
    for (const child of children) child.kill();
  }
}

/** Milliseconds from open to the first byte. */
export async function firstByteMs(stage: Stage, file: string): Promise<number> {
  const script =
    "const fs=require('fs');const b=Buffer.alloc(1);const t=performance.now();" +
    'const fd=fs.openSync(process.argv[1]);fs.readSync(fd,b,0,1,0);console.log(performance.now()-t)';
  return Number(await stage.run(process.execPath, ['-e', script, file]));
}
