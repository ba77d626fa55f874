/** `perigee mkdir`: makes a directory of an export. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXPORT_PATH_MEANING, parseChildPath, withChanges, withCredentials } from './export-path.ts';
import { type Flags } from './options.ts';

export function mkdirCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('mkdir', {
    description: 'Makes a directory of an export; put makes those on the way to a file by itself.',
    examples: [
      'perigee mkdir 10.0.0.1:7420/datasets/new',
      'perigee mkdir --parents --mode 0750 10.0.0.1:7420/datasets/a/b/c',
    ],
  })
    .argument('<path>', EXPORT_PATH_MEANING)
    .option('-p, --parents', 'make missing ones on the way, and accept one that is there')
    .option('-m, --mode <octal>', 'permissions');
  return withCredentials(command).action(
    act(context, async (given: string, flags: Flags) => {
      const target = parseChildPath(given);
      const mode = modeOf(flags.mode);
      await withChanges(target, { flags, context }, (changes) =>
        changes.makeDirectory(target.path, {
          parents: flags.parents === true,
          attributes: mode === undefined ? {} : { mode },
        }),
      );
      if (flags.json === true) out.json({ path: target.path });
    }),
  );
}

function modeOf(given: unknown): number | undefined {
  if (given === undefined) return undefined;
  if (typeof given === 'string' && /^[0-7]{1,4}$/.test(given)) return parseInt(given, 8);
  throw new UsageError(`--mode: ${JSON.stringify(given)} is not an octal mode`, {
    hint: 'write for example 0755',
  });
}
