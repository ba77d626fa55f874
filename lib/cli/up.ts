/** `perigee up`: everything in one process for a first look; `ready: <mountpoint>`, then live figures. */
import { type Command } from 'commander';
import { GIB, MIB } from '../base/limits.ts';
import { resolveOptional } from '../config/file-settings.ts';
import { DRIVERS } from '../config/mount-settings.ts';
import { resolveMountpoint } from '../config/names.ts';
import { type Settings, setting } from '../config/settings.ts';
import { choiceSchema, durationSchema, pathSchema, sizeSchema, switchSchema } from '../config/values.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { runForeground } from './foreground.ts';
import { LiveFigures } from './live-figures.ts';
import { addSettings, type Flags, resolveFlags } from './options.ts';

const CACHE_BYTES_DEFAULT = 4 * GIB;
const CACHE_BYTES_MIN = 64 * MIB;
const FIGURES_TERMINAL_MS = 1_000;
const FIGURES_PLAIN_MS = 5_000;
const FIGURES_MS_MIN = 100;

const upSettings = {
  dir: setting<string | undefined>({
    schema: pathSchema,
    description:
      'where data, index and cache are kept; otherwise a temporary directory that goes away at the end',
    placeholder: 'directory',
    fallback: { value: undefined },
  }),
  mount: setting<string | undefined>({
    schema: pathSchema,
    description: 'where to mount; otherwise in that directory',
    placeholder: 'mountpoint',
    fallback: { value: undefined },
  }),
  sample: setting({
    schema: switchSchema,
    description: 'begin with a small generated data set',
    fallback: { value: false },
  }),
  'cache-size': setting({
    schema: sizeSchema({ min: CACHE_BYTES_MIN }),
    description: 'room the cache may take',
    placeholder: 'size',
    fallback: { value: CACHE_BYTES_DEFAULT, text: '4GiB' },
  }),
  driver: setting<(typeof DRIVERS)[number]>({
    schema: choiceSchema(DRIVERS),
    description: 'kernel (own protocol on /dev/fuse) or portable (needs libfuse 2)',
    placeholder: 'driver',
    fallback: { value: 'kernel', text: 'kernel' },
  }),
  every: setting<number | undefined>({
    schema: durationSchema({ minMs: FIGURES_MS_MIN }),
    description: 'how often figures are shown (default 1s on a terminal, else 5s)',
    placeholder: 'duration',
    fallback: { value: undefined },
  }),
} satisfies Settings;

export function upCommand(context: CommandContext): Command {
  const { runtime, out, workingDirectory, clock } = context;
  const command = makeCommand('up', {
    description: 'All in one for a first look: an origin, a satellite and a mount; Ctrl-C unmounts.',
    examples: ['perigee up --sample', 'perigee up --dir ./perigee --mount /mnt/data'],
  });
  return addSettings(command, upSettings).action(
    act(context, async (flags: Flags) => {
      const values = resolveFlags(upSettings, flags, context);
      const everyMs = values.every ?? (out.terminal ? FIGURES_TERMINAL_MS : FIGURES_PLAIN_MS);
      await runForeground(
        {
          start: () =>
            runtime.up({
              directory: resolveOptional(workingDirectory, values.dir),
              mountpoint:
                values.mount === undefined ? undefined : resolveMountpoint(values.mount, workingDirectory),
              sample: values.sample,
              cacheBytes: values['cache-size'],
              driver: values.driver,
            }),
          ready(running) {
            out.line(`ready: ${running.mountpoint}`);
            return new LiveFigures({ running, out, clock }).show(everyMs);
          },
          force: (running) => runtime.forceUnmount(running.mountpoint),
        },
        context,
      );
    }),
  );
}
