/**
 * `npm run sim -- --seeds 1000 --from 1`: simulates one world a seed and stops at the first that goes wrong, with its
 * smallest wrong history. That seed alone (`--seeds 1 --from SEED`) does the same again, event for event; `--trace`
 * prints all that happened in it. `--still`: directories are not renamed.
 */
import { parseArgs } from 'node:util';
import { simulate } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
    still: { type: 'boolean', default: false },
  },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
const movesDirectories = !values.still;
const print = (text: string): void => void process.stdout.write(`${text}\n`);
// Errors are made by the thousand, and only their codes are looked at.
Error.stackTraceLimit = 0;

const startedMs = performance.now();
let done = 0;
let events = 0;
let operations = 0;
for (let seed = from; seed < from + seeds; seed++) {
  const result = await simulate(seed, { movesDirectories });
  done += 1;
  events += result.events;
  operations += result.operations;
  if (result.problems.length === 0 && !values.trace) continue;
  // Once more, with a trace.
  const { problems, trace, counts } = await simulate(seed, { movesDirectories, isTraced: true });
  if (values.trace) for (const { atMs, text } of trace) print(`${atMs.toFixed(1).padStart(9)} ms  ${text}`);
  print(JSON.stringify(counts));
  if (result.problems.length === 0) continue;
  print(problems.join('\n\n'));
  print(`seed ${seed} is wrong, after ${done} seeds`);
  process.exitCode = 1;
  break;
}
const seconds = (performance.now() - startedMs) / 1_000;
print(
  `${done} seeds, ${events} events, ${operations} operations in ${seconds.toFixed(1)} s: ${(done / seconds).toFixed(1)} seeds/s`,
);
