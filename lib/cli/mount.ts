/** `perigee mount`: a satellite; returns when the mount answers. */
import { type Command } from 'commander';
import { mountSettings } from '../config/mount-settings.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { runForeground } from './foreground.ts';
import { nameText } from './format.ts';
import { mountOptionsOf } from './mount-options.ts';
import { addConfigOption, addSettings, type Flags, resolveWithFile } from './options.ts';

export function mountCommand(context: CommandContext): Command {
  const { runtime, out, workingDirectory } = context;
  const command = makeCommand('mount', {
    description: 'Mounts an export of an origin; returns when the mount answers.',
    examples: [
      'perigee mount 10.0.0.1:7420/datasets /mnt/data --cache /nvme/perigee --cache-size 1TiB',
      'perigee mount [fd00::1]:7420/datasets /mnt/data --cache /nvme/p --cache-size 100GiB --foreground',
      'PERIGEE_CACHE=/nvme/p PERIGEE_CACHE_SIZE=100GiB perigee mount 10.0.0.1:7420/datasets /mnt/data',
    ],
  })
    .argument('<origin/export>', 'host:port/name')
    .argument('<mountpoint>', 'an existing empty directory');
  addConfigOption(addSettings(command, mountSettings));
  command.option('--foreground', 'stay in the foreground until SIGINT or SIGTERM, log to standard error');
  return command.action(
    act(context, async (source: string, mountpoint: string, flags: Flags) => {
      const values = resolveWithFile('mount', flags, context);
      const options = mountOptionsOf({ source, mountpoint, workingDirectory }, values);
      const name = nameText(options.mountpoint);
      if (flags.foreground !== true) {
        const { pid } = await runtime.mountBackground(options);
        out.line(`mounted: ${name} (process ${pid})`);
        return;
      }
      await runForeground(
        {
          start: () => runtime.mountForeground(options),
          ready() {
            out.line(`mounted: ${name}`);
            return undefined;
          },
          force: () => runtime.forceUnmount(options.mountpoint),
        },
        context,
      );
    }),
  );
}
