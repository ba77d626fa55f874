/** `perigee mv`: renames a file or a directory of any size, at one instant for every satellite. */
import path from 'node:path';
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import {
  EXPORT_PATH_MEANING,
  parseChildPath,
  parseExportPath,
  withChanges,
  withCredentials,
} from './export-path.ts';
import { type Flags } from './options.ts';

export function mvCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('mv', {
    description:
      'Renames a file or a directory inside an export; a path that ends with a slash is a directory to move into.',
    examples: [
      'perigee mv 10.0.0.1:7420/datasets/train 10.0.0.1:7420/datasets/train-2024',
      'perigee mv 10.0.0.1:7420/datasets/a.tar 10.0.0.1:7420/datasets/old/',
    ],
  })
    .argument('<from>', EXPORT_PATH_MEANING)
    .argument('<to>', EXPORT_PATH_MEANING)
    .option('--no-replace', 'refuse if there is something already');
  return withCredentials(command).action(
    act(context, async (from: string, to: string, flags: Flags) => {
      const source = parseChildPath(from);
      const target = parseExportPath(to);
      if (source.origin !== target.origin || source.exportName !== target.exportName) {
        throw new UsageError('both paths must lie in the same export of the same origin', {
          hint: 'copy between exports with put and rm',
        });
      }
      const inside = target.path === '' ? '' : `${target.path}/`;
      const place = target.isDirectory ? inside + path.posix.basename(source.path) : target.path;
      await withChanges(source, { flags, context }, (changes) =>
        changes.rename(source.path, place, { noReplace: flags.replace === false }),
      );
      if (flags.json === true) out.json({ from: source.path, to: place });
    }),
  );
}
