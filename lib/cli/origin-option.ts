/** `--origin host:port` and the files of credentials, for commands that ask an origin; without it, that of the mount. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { clientCredentialFiles, clientSettings } from '../config/client-settings.ts';
import { type Settings, setting } from '../config/settings.ts';
import { type Endpoint, endpointSchema, formatEndpoint } from '../config/values.ts';
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';
import { type CommandContext } from './command.ts';
import { findMountPath } from './mount-path.ts';
import { addConfigOption, addSettings, type Flags, resolveWithClient } from './options.ts';

const originSettings = {
  origin: setting<Endpoint | undefined>({
    schema: endpointSchema('connect'),
    description: 'the origin; otherwise that of the mount of this host',
    placeholder: 'host:port',
    fallback: { value: undefined },
  }),
  ...clientSettings,
} satisfies Settings;

export function withOrigin(command: Command): Command {
  return addConfigOption(addSettings(command, originSettings)).option('--json', 'print JSON');
}

/** @throws UsageError */
export async function chosenOrigin(
  flags: Flags,
  context: CommandContext,
): Promise<{ readonly origin: string; readonly credentials: ClientCredentialFiles }> {
  const values = resolveWithClient(originSettings, flags, context);
  const origin = values.origin === undefined ? await originOfMount(context) : formatEndpoint(values.origin);
  return { origin, credentials: clientCredentialFiles(values, context.workingDirectory) };
}

async function originOfMount(context: CommandContext): Promise<string> {
  try {
    const { mountpoint } = await findMountPath(undefined, context);
    const { origin } = await (await context.runtime.control(mountpoint)).status();
    return origin;
  } catch (error) {
    throw new UsageError('no origin is named', { cause: error, hint: 'add --origin host:port' });
  }
}
