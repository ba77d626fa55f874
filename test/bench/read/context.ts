/** What every measure gets, and what it is. */
import type { MeasureOf } from './run-measures.ts';
import type { Dataset } from './dataset.ts';
import type { Mounter, Perigee } from './mounts.ts';
import type { Stage } from './stage.ts';

export interface BenchContext {
  readonly stage: Stage;
  readonly dataset: Dataset;
  readonly perigee: Perigee;
  readonly peers: readonly Mounter[];
}

export type Measure = MeasureOf<BenchContext>;

/** Runs sides alternately, so that what changes on the machine meanwhile changes all of them. */
export async function alternate<Name extends string>(
  runs: number,
  sides: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(sides) as Name[];
  const values = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>;
  for (let run = 0; run < runs; run++) {
    for (const name of names) values[name].push(await sides[name]());
  }
  return values;
}
