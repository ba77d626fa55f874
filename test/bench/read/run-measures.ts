/** Runs the measures that were asked for, one after the other on one stage, and prints them as one table. */
import { compare, type Row } from './figures.ts';
import { report } from './report.ts';
import { onStage, type Stage } from './stage.ts';

export interface MeasureOf<Context> {
  readonly name: string;
  readonly about: string;
  run(context: Context): Promise<readonly Row[]>;
}

export interface MeasuresOptions {
  /** Names of measures; absent: all. */
  readonly only: readonly string[] | undefined;
  readonly runs: number;
  readonly quick: boolean;
  readonly json: boolean;
  /** On the disk that is measured. */
  readonly dir: string | undefined;
}

/** Resolves with false if something was not met or not measured. */
export async function runMeasures<Context>(
  options: MeasuresOptions,
  measures: readonly MeasureOf<Context>[],
  prepare: (stage: Stage) => Promise<Context>,
): Promise<boolean> {
  const rows: Row[] = [];
  const failures: string[] = [];
  await onStage(options, async (stage) => {
    const context = await prepare(stage);
    for (const measure of measures) {
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
