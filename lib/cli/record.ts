/** `perigee record`: runs a command and writes down which files of a mount were opened meanwhile, as a manifest. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { type Command } from 'commander';
import { PerigeeError, UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { countText, nameText } from './format.ts';
import { findMountPath } from './mount-path.ts';

const FILE_USUAL = 'perigee-manifest.txt';

class RecordError extends PerigeeError<'command'> {
  override readonly layer = 'cli';
}

export function recordCommand(context: CommandContext): Command {
  return makeCommand('record', {
    description:
      'Runs a command and writes a manifest of the files below a path that programs of this host open meanwhile, in that order.',
    examples: [
      'perigee record /mnt/data/train -- python train.py --epochs 1',
      'perigee record /mnt/data --output epoch.txt -- ./job',
    ],
  })
    .argument('<path>', 'a directory under a mount')
    .argument('<command...>', 'behind --, the command with its words')
    .option('-o, --output <file>', `the manifest (default ${FILE_USUAL})`)
    .action(
      act(
        context,
        async (given: string, command: string[], { output = FILE_USUAL }: { readonly output?: string }) => {
          const file = path.resolve(context.workingDirectory, output);
          const { mountpoint, inside = '' } = await findMountPath(given, context);
          const control = await context.runtime.control(mountpoint);
          const id = await control.recordStart(inside);
          let ended: string | undefined;
          try {
            ended = await run(command, context);
          } finally {
            const { paths, isCut } = await control.recordStop(id);
            fs.writeFileSync(
              file,
              `# opened below /${inside}\n${paths
                .filter(isOneLine)
                .map((one) => `${one}\n`)
                .join('')}`,
            );
            context.out.note(`${countText(paths.length, 'file')} in ${nameText(file)}`);
            if (isCut) context.out.note('note: cut there: more files were opened than a manifest may have');
          }
          if (ended !== undefined) throw new RecordError('command', `${command[0]} ${ended}`);
        },
      ),
    );
}

/** A manifest has one path a line. */
function isOneLine(given: string): boolean {
  return !given.includes('\n');
}

/** @returns how it ended if not well. @throws UsageError if it cannot be run */
async function run(
  [program, ...words]: readonly string[],
  context: CommandContext,
): Promise<string | undefined> {
  const child = spawn(program!, words, { stdio: 'inherit' });
  // The command gets signals of the terminal itself, and what was opened until then is written.
  const stopListening = context.signals(() => undefined);
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    if (code === 0) return undefined;
    return code === null ? `was ended by ${signal}` : `ended with exit code ${code}`;
  } catch (error) {
    throw new UsageError(`cannot run ${nameText(program!)}`, {
      cause: error,
      hint: 'write the command behind --',
    });
  } finally {
    stopListening();
  }
}
