/** `perigee unmount`: asks the mount's process to unmount and end; `--force` also detaches a mount whose process is gone. */
import { type Command } from 'commander';
import { resolveMountpoint } from '../config/names.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { type MountControl } from './runtime.ts';

export function unmountCommand(context: CommandContext): Command {
  const { runtime, workingDirectory } = context;
  return makeCommand('unmount', {
    description: 'Unmounts; the cache stays for the next mount.',
    examples: ['perigee unmount /mnt/data', 'perigee unmount --force /mnt/data'],
  })
    .argument('<mountpoint>')
    .option('--force', 'detach even if programs still use the mount or its process is gone')
    .action(
      act(context, async (given: string, flags: { readonly force?: true }) => {
        const mountpoint = resolveMountpoint(given, workingDirectory);
        const force = flags.force === true;
        if (!force) {
          await (await runtime.control(mountpoint)).unmount({ force });
          return;
        }
        let control: MountControl | undefined;
        try {
          control = await runtime.control(mountpoint);
          await control.unmount({ force });
        } catch {
          // Gone, or stuck: the kernel can still take the mount out of the tree.
          await runtime.forceUnmount(mountpoint);
        }
      }),
    );
}
