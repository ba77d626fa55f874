/** `perigee flush`: waits until what programs have closed is in the object store, for every host to see. */
import { type Command } from 'commander';
import { act, type Action, type CommandContext, makeCommand } from './command.ts';
import { converge, type ConvergeFlags } from './converging.ts';

export function flushCommand(context: CommandContext): Command {
  const action: Action<[string | undefined, ConvergeFlags]> = (given, flags) =>
    converge({ given, flags, context, withOpen: false });
  return makeCommand('flush', {
    description:
      'Waits until what was written and closed at or below a path has become versions that every host sees.',
    examples: ['perigee flush', 'perigee flush /mnt/data/checkpoints', 'perigee flush --timeout 5m'],
  })
    .argument('[path]', 'a file or directory under a mount')
    .option('--timeout <time>', 'wait so long at most, then tell what is left (exit code 3)')
    .option('--json', 'print JSON')
    .action(act(context, action));
}
