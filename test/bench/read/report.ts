/** What a benchmark prints at its end. */
import { type Row, tableOf } from './figures.ts';
import { machineLine, type Stage } from './stage.ts';

export function report(
  rows: readonly Row[],
  given: { readonly json: boolean; readonly stage: Stage; readonly failures: readonly string[] },
): void {
  const { json, stage, failures } = given;
  const machine = machineLine(stage.directory);
  const commands = [...stage.commands];
  if (json) {
    console.log(JSON.stringify({ machine, runs: stage.runs, rows, commands, failures }, undefined, 2));
    return;
  }
  console.log(`${machine}\nmedians of ${stage.runs} runs${stage.isQuick ? ', small sizes' : ''}\n`);
  console.log(tableOf(rows));
  console.log(`\ncommands:\n${commands.map((command) => `  ${command}`).join('\n')}`);
  for (const failure of failures) console.log(`failed: ${failure}`);
}
