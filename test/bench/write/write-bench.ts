/** `npm run bench -- write`: every measure of writing, both sides in one run, as one table. */
import { compare, type Row } from '../read/figures.ts';
import { report } from '../read/report.ts';
import { onStage } from '../read/stage.ts';
import { back, converging, rename, smallBack } from './back.ts';
import { prepareWriting, type WriteMeasure } from './context.ts';
import { smallThrough, through, throughSlow } from './through.ts';

export const WRITE_MEASURES: readonly WriteMeasure[] = [
  back,
  smallBack,
  converging,
  through,
  throughSlow,
  smallThrough,
  rename,
];

export interface WriteBenchOptions {
  /** Names of measures; absent: all. */
  readonly only: readonly string[] | undefined;
  readonly runs: number;
  readonly quick: boolean;
  readonly json: boolean;
  /** On the disk that is measured. */
  readonly dir: string | undefined;
}

/** Resolves with false if something was not met or not measured. */
export async function runWriteBench(options: WriteBenchOptions): Promise<boolean> {
  const rows: Row[] = [];
  const failures: string[] = [];
  await onStage(options, async (stage) => {
    const context = await prepareWriting(stage);
    for (const measure of WRITE_MEASURES) {
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
