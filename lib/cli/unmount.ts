/** `perigee unmount`: asks the mount's process to unmount and end; `--force` also detaches a mount whose process is gone. */
import { type Command } from 'commander';
import { resolveMountpoint } from '../config/names.ts';
import { act, type CommandContext, makeCommand } from './command.ts';

/** How long `--force` waits for the mount's process, which also may hang. */
const FORCE_DEADLINE_MS = 5_000;

export function unmountCommand(context: CommandContext): Command {
  const { runtime, workingDirectory, clock } = context;
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
        const late = new AbortController();
        const cancel = clock.after(FORCE_DEADLINE_MS, () => late.abort(new Error('no answer in time')));
        try {
          const control = await runtime.control(mountpoint);
          await control.unmount({ force }, { signal: late.signal });
        } catch {
          // Gone, or stuck: the kernel can still take the mount out of the tree.
          await runtime.forceUnmount(mountpoint);
        } finally {
          cancel();
        }
      }),
    );
}
