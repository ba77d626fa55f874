/** `npm run bench -- read`: every measure of reading, both sides in one run, as one table. */
import type { BenchContext, Measure } from './context.ts';
import { cold, coldFiles, coldSlow, firstByte, restart } from './cold.ts';
import { prepareDataset } from './dataset.ts';
import { compare, tableOf, type Row } from './figures.ts';
import { peers, Perigee } from './mounts.ts';
import { requests } from './requests.ts';
import { machineLine, onStage, type Stage } from './stage.ts';
import { warm, warmPortable } from './warm.ts';

export const READ_MEASURES: readonly Measure[] = [
  warm,
  warmPortable,
  cold,
  coldSlow,
  coldFiles,
  requests,
  firstByte,
  restart,
];

export interface ReadBenchOptions {
  /** Names of measures; absent: all. */
  readonly only: readonly string[] | undefined;
  readonly runs: number;
  readonly quick: boolean;
  readonly json: boolean;
  /** On the disk that is measured. */
  readonly dir: string | undefined;
}

/** Resolves with false if something was not met or not measured. */
export async function runReadBench(options: ReadBenchOptions): Promise<boolean> {
  const rows: Row[] = [];
  const failures: string[] = [];
  await onStage(options, async (stage) => {
    const dataset = await prepareDataset(stage);
    const perigee = new Perigee(stage, dataset);
    const context: BenchContext = { stage, dataset, perigee, peers: peers(stage, dataset) };
    for (const measure of READ_MEASURES) {
      if (options.only !== undefined && !options.only.includes(measure.name)) continue;
      try {
        rows.push(...(await measure.run(context)));
      } catch (error) {
        failures.push(`${measure.name}: ${String(error)}`);
        stage.tell(failures.at(-1)!);
      }
    }
    report(rows, { options, stage, failures });
  });
  const verdicts = rows.flatMap((row) => compare(row)).map(({ verdict }) => verdict);
  return failures.length === 0 && !verdicts.includes('no') && !verdicts.includes('not measured');
}

function report(
  rows: readonly Row[],
  given: {
    readonly options: ReadBenchOptions;
    readonly stage: Stage;
    readonly failures: readonly string[];
  },
): void {
  const { options, stage, failures } = given;
  const machine = machineLine(stage.directory);
  const commands = [...stage.commands];
  if (options.json) {
    console.log(JSON.stringify({ machine, runs: stage.runs, rows, commands, failures }, undefined, 2));
    return;
  }
  console.log(`${machine}\nmedians of ${stage.runs} runs${stage.isQuick ? ', small sizes' : ''}\n`);
  console.log(tableOf(rows));
  console.log(`\ncommands:\n${commands.map((command) => `  ${command}`).join('\n')}`);
  for (const failure of failures) console.log(`failed: ${failure}`);
}
