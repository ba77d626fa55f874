/** `npm run bench -- read`: every measure of reading, both sides in one run, as one table. */
import type { BenchContext, Measure } from './context.ts';
import { cold, coldFiles, coldSlow, firstByte, restart } from './cold.ts';
import { prepareDataset } from './dataset.ts';
import { peers, Perigee } from './mounts.ts';
import { requests } from './requests.ts';
import { type MeasuresOptions, runMeasures } from './run-measures.ts';
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

export function runReadBench(options: MeasuresOptions): Promise<boolean> {
  return runMeasures(options, READ_MEASURES, async (stage): Promise<BenchContext> => {
    const dataset = await prepareDataset(stage);
    return { stage, dataset, perigee: new Perigee(stage, dataset), peers: peers(stage, dataset) };
  });
}
