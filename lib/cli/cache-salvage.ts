/** `perigee cache salvage`: saves what writers left in a cache directory that a mount refuses to start with. */
import path from 'node:path';
import { type Command } from 'commander';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT } from './environment.ts';
import { bytesText, countText, nameText } from './format.ts';

interface SalvageFlags {
  readonly cache: string;
  readonly to: string;
  readonly json?: true;
}

export function cacheSalvageCommand(context: CommandContext): Command {
  const { out, runtime, workingDirectory } = context;
  return makeCommand('salvage', {
    description:
      'Copies files that were being written out of a cache directory whose journal does not verify, with a list of what they are. Changes nothing there.',
    examples: ['perigee cache salvage --cache /nvme/perigee --to /root/salvaged'],
  })
    .requiredOption('--cache <directory>', 'the cache directory; no mount may be using it')
    .requiredOption('--to <directory>', 'where the copies go; empty or new')
    .option('--json', 'print JSON')
    .action(
      act(context, async ({ cache, to, json }: SalvageFlags) => {
        const report = await runtime.salvageCache({
          cacheDirectory: path.resolve(workingDirectory, cache),
          to: path.resolve(workingDirectory, to),
        });
        if (json) out.json(report);
        else {
          out.line(`copied: ${countText(report.files, 'file')}, ${bytesText(report.bytes)}`);
          if (report.losses > 0) out.line(`missing or short: ${countText(report.losses, 'file')}`);
          for (const problem of report.problems) out.line(problem);
          out.line(`what they are: ${nameText(report.list)}`);
        }
        return report.losses + report.problems.length > 0 ? EXIT.partly : EXIT.fine;
      }),
    );
}
