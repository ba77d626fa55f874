/**
 * `npm run sim -- --seeds 1000 --from 1`: simulates one world a seed and stops at the first that goes wrong, with its
 * smallest wrong history. That seed alone (`--seeds 1 --from SEED`) does the same again, event for event; `--trace`
 * prints all that happened in it. `--still`: directories are not renamed. `--jobs`: processes, one a core if not said.
 */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { worlds } from './worlds.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(os.availableParallelism()) },
    trace: { type: 'boolean', default: false },
    still: { type: 'boolean', default: false },
  },
});
const from = Number(values.from);
const options = { movesDirectories: !values.still };
const all = { ...options, from, seeds: Number(values.seeds), jobs: Number(values.jobs) };
const print = (text: string): void => void process.stdout.write(`${text}\n`);

const startedMs = performance.now();
let done = 0;
let events = 0;
let operations = 0;
for await (const result of worlds(all)) {
  const { seed } = result;
  done += 1;
  events += result.events;
  operations += result.operations;
  if (result.problems.length === 0 && !values.trace) continue;
  // Once more, with a trace.
  for await (const again of worlds({ ...options, from: seed, seeds: 1, jobs: 1, isTraced: true })) {
    const { problems, trace, counts } = again;
    if (values.trace) for (const { atMs, text } of trace) print(`${atMs.toFixed(1).padStart(9)} ms  ${text}`);
    print(JSON.stringify(counts));
    print(problems.join('\n\n'));
  }
  if (result.problems.length === 0) continue;
  print(`seed ${seed} is wrong, after ${done} seeds`);
  process.exitCode = 1;
  break;
}
const seconds = (performance.now() - startedMs) / 1_000;
print(
  `${done} seeds, ${events} events, ${operations} operations in ${seconds.toFixed(1)} s: ${(done / seconds).toFixed(1)} seeds/s`,
);
