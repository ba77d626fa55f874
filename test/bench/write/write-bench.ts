/** `npm run bench -- write`: every measure of writing, both sides in one run, as one table. */
import { type MeasuresOptions, runMeasures } from '../read/run-measures.ts';
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

export function runWriteBench(options: MeasuresOptions): Promise<boolean> {
  return runMeasures(options, WRITE_MEASURES, prepareWriting);
}
