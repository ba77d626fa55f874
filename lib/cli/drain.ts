/** `perigee drain`: brings a mount to where nothing is on this host alone, as before the host is taken away. */
import { type Command } from 'commander';
import { act, type Action, type CommandContext, makeCommand } from './command.ts';
import { converge, type ConvergeFlags } from './converging.ts';

export function drainCommand(context: CommandContext): Command {
  const action: Action<[string | undefined, ConvergeFlags]> = (given, flags) =>
    converge({ given, flags, context, withOpen: true });
  return makeCommand('drain', {
    description:
      'Converges all that was written on a mount, and says what is left. Ends with 0 only if nothing is on this host alone, also not in files that are still open.',
    examples: ['perigee drain', 'perigee drain /mnt/data --timeout 10m --json'],
  })
    .argument('[mountpoint]', 'the mount, if there are several')
    .option('--timeout <time>', 'wait so long at most')
    .option('--json', 'print JSON')
    .action(act(context, action));
}
