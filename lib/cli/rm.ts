/** `perigee rm`: removes names of an export, at one instant for every satellite. */
import { type Command } from 'commander';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXPORT_PATH_MEANING, parseChildPath, withChanges, withCredentials } from './export-path.ts';
import { countText, nameText } from './format.ts';
import { type Flags } from './options.ts';

export function rmCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('rm', {
    description: 'Removes a file or a directory of an export.',
    examples: [
      'perigee rm 10.0.0.1:7420/datasets/train/000.tar',
      'perigee rm --recursive 10.0.0.1:7420/datasets/old',
    ],
  })
    .argument('<path>', EXPORT_PATH_MEANING)
    .option('-r, --recursive', 'also a directory with all that is in it');
  return withCredentials(command).action(
    act(context, async (given: string, flags: Flags) => {
      const target = parseChildPath(given);
      const recursive = flags.recursive === true;
      const removed = await withChanges(target, { flags, context }, (changes) =>
        changes.remove(target.path, { recursive }),
      );
      if (flags.json === true) out.json({ path: target.path, removed });
      else if (recursive) out.line(`removed ${nameText(target.path)}: ${countText(removed, 'name')}`);
    }),
  );
}
