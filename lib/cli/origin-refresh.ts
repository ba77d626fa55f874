/** `perigee origin refresh`: compares what the origin knows with the object store. */
import { type Command } from 'commander';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXPORT_PATH_MEANING, parseExportPath, withChanges, withCredentials } from './export-path.ts';
import { countText } from './format.ts';
import { type Flags } from './options.ts';
import { type RefreshFigures } from './runtime.ts';

export function originRefreshCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('refresh', {
    description: 'Looks for changes that others made in the object store, and tells satellites of them.',
    examples: [
      'perigee origin refresh 10.0.0.1:7420/datasets/train',
      'perigee origin refresh --recursive 10.0.0.1:7420/datasets/ --json',
    ],
  })
    .argument('<path>', EXPORT_PATH_MEANING)
    .option('-r, --recursive', 'also all directories below');
  return withCredentials(command).action(
    act(context, async (given: string, flags: Flags) => {
      const target = parseExportPath(given);
      const recursive = flags.recursive === true;
      let sum: RefreshFigures = { directories: 0, names: 0, added: 0, changed: 0, gone: 0 };
      await withChanges(target, { flags, context }, async (changes) => {
        for await (const figures of changes.refresh(target.path, { recursive })) {
          sum = figures;
          if (out.terminal && flags.json !== true) out.redraw(textOf(sum));
        }
      });
      if (flags.json === true) out.json(sum);
      else out.line(textOf(sum));
    }),
  );
}

function textOf({ directories, names, added, changed, gone }: RefreshFigures): string {
  const looked = `${countText(names, 'name')} in ${directories === 1 ? '1 directory' : `${directories.toLocaleString('en-US')} directories`}`;
  return `${looked}: ${added} new, ${changed} changed, ${gone} gone`;
}
