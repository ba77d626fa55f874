/** `npm run bench -- read | write | names | eviction | policy | prefetch`: how fast it is, against what one would use instead, on this machine. */
import { Command, InvalidArgumentError } from 'commander';
import { runEvictionBench } from './eviction.ts';
import { runNamesBench } from './names/names-bench.ts';
import { runPolicyBench } from './policy.ts';
import { runPrefetchBench } from './prefetch/prefetch-bench.ts';
import { type MeasuresOptions } from './read/run-measures.ts';
import { READ_MEASURES, runReadBench } from './read/read-bench.ts';
import { runWriteBench, WRITE_MEASURES } from './write/write-bench.ts';

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('a number from 1 on is expected');
  return value;
}

function oneOf(known: readonly string[]) {
  return (text: string, previous: readonly string[] | undefined): readonly string[] => {
    if (!known.includes(text)) throw new InvalidArgumentError(`one of ${known.join(', ')} is expected`);
    return [...(previous ?? []), text];
  };
}

interface MeasuresFlags {
  readonly only?: readonly string[];
  readonly runs: number;
  readonly quick?: true;
  readonly json?: true;
  readonly dir?: string;
}

const program = new Command('bench').description('Benchmarks of Perigee, as root on Linux.');

function addMeasures(
  name: string,
  description: string,
  bench: {
    readonly names: readonly string[];
    readonly run: (options: MeasuresOptions) => Promise<boolean>;
  },
): void {
  program
    .command(name)
    .description(description)
    .option('--only <measure>', `may be repeated: ${bench.names.join(', ')}`, oneOf(bench.names))
    .option('--runs <count>', 'runs of each side; the median counts', positiveInteger, 3)
    .option('--quick', 'small sizes: does everything work?')
    .option('--dir <directory>', 'on the disk to be measured; default: the temporary directory')
    .option('--json', 'print JSON')
    .action(async (flags: MeasuresFlags) => {
      const isMet = await bench.run({
        only: flags.only,
        runs: flags.runs,
        quick: flags.quick === true,
        json: flags.json === true,
        dir: flags.dir,
      });
      if (!isMet) process.exitCode = 1;
    });
}

addMeasures('read', 'reading, warm and cold, against native files, the bare SDK, rclone and s3fs', {
  names: READ_MEASURES.map(({ name }) => name),
  run: runReadBench,
});

addMeasures('write', 'writing, behind and through, against native files, the bare SDK, rclone and s3fs', {
  names: WRITE_MEASURES.map(({ name }) => name),
  run: runWriteBench,
});

program
  .command('names')
  .description('names under leases: find, stat and small files, against the plain folder')
  .option('--runs <count>', 'runs of each side; the median counts', positiveInteger, 3)
  .option('--quick', 'small sizes: does everything work?')
  .option('--dir <directory>', 'on the disk to be measured; default: the temporary directory')
  .option('--json', 'print JSON')
  .action(async (flags: Omit<MeasuresFlags, 'only'>) => {
    const isMet = await runNamesBench({
      runs: flags.runs,
      quick: flags.quick === true,
      json: flags.json === true,
      dir: flags.dir,
    });
    if (!isMet) process.exitCode = 1;
  });

program
  .command('eviction')
  .description(
    'shares of hits of the eviction policy, of LRU and of the offline optimum, on synthetic traces',
  )
  .action(async () => {
    await runEvictionBench();
  });

program
  .command('policy')
  .description('what one decision of the policy engine costs, with 100 and 1,000 policies')
  .action(() => {
    if (!runPolicyBench()) process.exitCode = 1;
  });

program
  .command('prefetch')
  .description(
    'what programs wait with policies of prefetching and without, over a store with a rate and latency',
  )
  .option('--quick', 'small sizes: does everything work?')
  .option('--dir <directory>', 'on the disk to be measured; default: the temporary directory')
  .action(async (flags: Pick<MeasuresFlags, 'quick' | 'dir'>) => {
    if (!(await runPrefetchBench({ quick: flags.quick === true, dir: flags.dir }))) process.exitCode = 1;
  });

await program.parseAsync();
