/** `perigee origin`: the central service, in the foreground. */
import { type Command } from 'commander';
import path from 'node:path';
import { resolveOptional } from '../config/file-settings.ts';
import { checkOriginSettings, originSettings, serverCredentialFiles } from '../config/origin-settings.ts';
import { checkServerCredentials } from '../rpc/server-credentials.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { runForeground } from './foreground.ts';
import { originCertifyCommand, originInitCommand } from './origin-init.ts';
import { originRefreshCommand } from './origin-refresh.ts';
import { addConfigOption, addSettings, type Flags, resolveWithFile } from './options.ts';

export function originCommand(context: CommandContext): Command {
  const { runtime, out, workingDirectory } = context;
  const command = makeCommand('origin', {
    description: 'Serves exports to satellites: names and versions; the bytes stay in the object store.',
    examples: [
      'perigee origin --data /var/lib/perigee --export datasets=s3://bucket/prefix?region=eu-central-1',
      'perigee origin --data ./origin --listen 127.0.0.1:7420 --export home=file:///srv/data',
      'perigee origin init --data /var/lib/perigee --host origin.example.net --satellite gpu-1 --admin alice',
      'perigee origin --config /etc/perigee/perigee.yaml',
    ],
  });
  addConfigOption(addSettings(command, originSettings));
  command.enablePositionalOptions();
  command
    .addCommand(originInitCommand(context))
    .addCommand(originCertifyCommand(context))
    .addCommand(originRefreshCommand(context));
  return command.action(
    act(context, async (flags: Flags) => {
      const values = resolveWithFile('origin', flags, context);
      checkOriginSettings(values);
      const credentials = serverCredentialFiles(values, workingDirectory);
      checkServerCredentials(credentials, { host: values.listen.host, insecure: values.insecure });
      await runForeground(
        {
          start: () =>
            runtime.origin({
              dataDirectory: path.resolve(workingDirectory, values.data),
              listen: values.listen,
              exports: values.exports,
              insecure: values.insecure,
              credentials,
              access: values.access,
              leases: { termMs: values['lease-term'], quietMs: values['lease-quiet'] },
              ...(values.events === undefined
                ? {}
                : {
                    events: {
                      listen: values.events,
                      tokenFile: resolveOptional(workingDirectory, values['events-token']),
                    },
                  }),
              metrics: values.metrics,
              logLevel: values['log-level'],
            }),
          ready(running) {
            out.line(`ready: ${running.address}`);
            return undefined;
          },
        },
        context,
      );
    }),
  );
}
