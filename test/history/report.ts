/** What a person needs to see of a wrong history: its smallest part, and what else happened around that. */
import { describeOperation } from './history.ts';
import type { Verdict } from './linearizability.ts';

export interface TraceLine {
  readonly atMs: number;
  readonly text: string;
  /** Directories that it is about; undefined: whatever one looks at, it may matter. */
  readonly about?: readonly string[];
}

/** Notes a line. */
export type Trace = (text: string, about?: readonly string[]) => void;

const LINES_MAX = 40;

/** Empty if there is nothing wrong. */
export function reportOf(verdict: Verdict, trace: readonly TraceLine[] = []): string {
  const pieces = verdict.violations.map(({ names, operations }) => {
    const toldMs = operations.flatMap(({ startMs, endMs }) => [startMs, endMs]).filter(Number.isFinite);
    const about = new Set(names.flatMap((name) => name.split(/[/#]/)[0] ?? []));
    const around = trace.filter(
      ({ atMs, about: directory }) =>
        atMs >= Math.min(...toldMs) &&
        atMs <= Math.max(...toldMs) &&
        (directory === undefined || directory.some((one) => about.has(one))),
    );
    return [
      `${names.join(', ')}: no order explains`,
      ...operations.map((operation) => `  ${describeOperation(operation)}`),
      ...(around.length > 0 ? ['meanwhile'] : []),
      ...around.slice(-LINES_MAX).map(({ atMs, text }) => `  ${atMs.toFixed(1).padStart(9)} ms  ${text}`),
    ].join('\n');
  });
  pieces.push(...verdict.undecided.map((names) => `${names.join(', ')}: the search was given up`));
  return pieces.join('\n\n');
}
