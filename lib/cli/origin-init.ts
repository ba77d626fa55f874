/**
 * `perigee origin init` and `perigee origin certify`: a private authority in the origin's data directory, and the
 * certificates that it issues, for people who have no other.
 */
import os from 'node:os';
import path from 'node:path';
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { authoritySettings, replaceSetting } from '../config/authority-settings.ts';
import { type ValuesOf } from '../config/settings.ts';
import { formatEndpoint } from '../config/values.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { addSettings, type Flags, resolveFlags } from './options.ts';
import { type IssueOptions } from './runtime.ts';

/** Where the printed commands look for the files of another host. */
const FILES_ELSEWHERE = '/etc/perigee/tls';
const PORT = 7420;

export function originInitCommand(context: CommandContext): Command {
  const { runtime, out } = context;
  const command = makeCommand('init', {
    description: 'Makes a private authority, and certificates for an origin, for satellites and for admins.',
    examples: [
      'perigee origin init --data /var/lib/perigee --host origin.example.net --satellite gpu-1 --admin alice',
      'perigee origin init --data /var/lib/perigee --host 10.0.0.1 --satellite gpu-1 --satellite gpu-2 --tenant research',
    ],
  });
  return addSettings(command, authoritySettings).action(
    act(context, async (flags: Flags) => {
      const values = resolveFlags(authoritySettings, flags, context);
      const hosts = values.hosts.length === 0 ? [os.hostname()] : values.hosts;
      const options = { ...issueOptionsOf(values, context), hosts, isFirst: true, replace: false };
      for (const file of await runtime.issueCertificates(options)) out.line(`made: ${file}`);
      const key = path.join(options.directory, 'ca-key.pem');
      out.line(`keep ${key} to yourself: whoever has it can make certificates`);
      for (const line of commandsFor(options)) out.line(line);
    }),
  );
}

export function originCertifyCommand(context: CommandContext): Command {
  const { runtime, out } = context;
  const settings = { ...authoritySettings, ...replaceSetting };
  const command = makeCommand('certify', {
    description: 'Issues further certificates by the authority that perigee origin init has made.',
    examples: [
      'perigee origin certify --data /var/lib/perigee --satellite gpu-3 --tenant research --role read',
      'perigee origin certify --data /var/lib/perigee --satellite gpu-1 --replace',
      'perigee origin certify --data /var/lib/perigee --host origin.example.net --replace',
    ],
  });
  return addSettings(command, settings).action(
    act(context, async (flags: Flags) => {
      const values = resolveFlags(settings, flags, context);
      const options = { ...issueOptionsOf(values, context), isFirst: false, replace: values.replace };
      if (options.clients.length === 0 && options.hosts.length === 0) {
        throw new UsageError('nobody is named', {
          hint: 'add --satellite NAME, --admin NAME or --host NAME',
        });
      }
      for (const file of await runtime.issueCertificates(options)) out.line(`made: ${file}`);
    }),
  );
}

function issueOptionsOf(
  { data, hosts, satellites, admins, tenant, role, valid }: ValuesOf<typeof authoritySettings>,
  { workingDirectory }: CommandContext,
) {
  const clients = [
    ...satellites.map((host) => ({ host, role, file: `satellite-${host}` }) as const),
    ...admins.map((host) => ({ host, role: 'admin', file: `admin-${host}` }) as const),
  ];
  const directory = path.join(path.resolve(workingDirectory, data), 'tls');
  return { directory, hosts, clients, tenant, validMs: valid };
}

/** What to do with them, to be copied. */
function commandsFor({ directory, hosts, clients }: IssueOptions): string[] {
  const at = formatEndpoint({ host: hosts[0] ?? 'localhost', port: PORT });
  const flags = (folder: string, name: string): string =>
    `--tls-cert ${path.join(folder, `${name}.pem`)} --tls-key ${path.join(folder, `${name}-key.pem`)} --tls-ca ${path.join(folder, 'ca.pem')}`;
  const lines = [
    '',
    'Start the origin, with an export of your own:',
    `  perigee origin --data ${path.dirname(directory)} --listen ${at} ${flags(directory, 'origin')} --export datasets=s3://bucket/prefix`,
  ];
  for (const { host, file, role } of clients) {
    const command =
      role === 'admin'
        ? `perigee doctor --origin ${at} --export datasets`
        : `perigee mount ${at}/datasets /mnt/data --cache /nvme/perigee --cache-size 1TiB`;
    lines.push(
      '',
      `For ${host}, once ca.pem, ${file}.pem and ${file}-key.pem are in its ${FILES_ELSEWHERE}:`,
      `  ${command} ${flags(FILES_ELSEWHERE, file)}`,
    );
  }
  return lines;
}
