/** `npm run bench -- read`: every measure of reading, both sides in one run, as one table. */
import type { BenchContext, Measure } from './context.ts';
import { cold, coldFiles, coldSlow, firstByte, restart } from './cold.ts';
import { prepareDataset } from './dataset.ts';
import { compare, type Row } from './figures.ts';
import { peers, Perigee } from './mounts.ts';
import { requests } from './requests.ts';
import { report } from './report.ts';
import { onStage } from './stage.ts';
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
    report(rows, { json: options.json, stage, failures });
  });
  const verdicts = rows.flatMap((row) => compare(row)).map(({ verdict }) => verdict);
  return failures.length === 0 && !verdicts.includes('no') && !verdicts.includes('not measured');
}
