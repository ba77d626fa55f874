/** `perigee doctor`: checks what a mount needs; each finding with what to do. Failed if there is a failure among them. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { clientCredentialFiles, clientSettings } from '../config/client-settings.ts';
import { resolveOptional } from '../config/file-settings.ts';
import { exportNameSchema, storeUrlSchema } from '../config/names.ts';
import { type Settings, setting } from '../config/settings.ts';
import {
  type Endpoint,
  endpointSchema,
  formatEndpoint,
  pathSchema,
  wholeNumberSchema,
} from '../config/values.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT } from './environment.ts';
import { nameText } from './format.ts';
import { addConfigOption, addSettings, type Flags, resolveWithClient } from './options.ts';
import { type Finding, type FindingLevel } from './runtime.ts';

const KEYS_MAX_DEFAULT = 10_000;
const KEYS_MAX_MOST = 1_000_000_000;

const doctorSettings = {
  origin: setting<Endpoint | undefined>({
    schema: endpointSchema('connect'),
    description: 'also check the connection to this origin',
    placeholder: 'host:port',
    fallback: { value: undefined },
  }),
  export: setting<string | undefined>({
    schema: exportNameSchema,
    description: 'and this export of it, with the keys of its store',
    placeholder: 'name',
    fallback: { value: undefined },
  }),
  cache: setting<string | undefined>({
    schema: pathSchema,
    description: 'also check the file system of this cache directory',
    placeholder: 'directory',
    fallback: { value: undefined },
  }),
  store: setting<string | undefined>({
    schema: storeUrlSchema,
    description: 'also check this object store directly, without an origin',
    placeholder: 'url',
    fallback: { value: undefined },
  }),
  ...clientSettings,
  'keys-max': setting({
    schema: wholeNumberSchema({ min: 1, max: KEYS_MAX_MOST }),
    description: 'keys to look through for names that cannot be files',
    placeholder: 'count',
    fallback: { value: KEYS_MAX_DEFAULT, text: String(KEYS_MAX_DEFAULT) },
  }),
} satisfies Settings;

const MARKS: Readonly<Record<FindingLevel, string>> = {
  ok: 'ok      ',
  note: 'note    ',
  warning: 'warning ',
  failure: 'FAILURE ',
};

export function doctorCommand(context: CommandContext): Command {
  const { runtime, out, workingDirectory } = context;
  const command = makeCommand('doctor', {
    description: 'Checks what a mount needs, and tells what to do about what is missing.',
    examples: [
      'perigee doctor',
      'perigee doctor --origin 10.0.0.1:7420 --export datasets --cache /nvme/perigee',
      'perigee doctor --store s3://bucket/prefix?region=eu-central-1 --json',
    ],
  }).option('--json', 'print JSON');
  return addConfigOption(addSettings(command, doctorSettings)).action(
    act(context, async (flags: Flags) => {
      const values = resolveWithClient(doctorSettings, flags, context);
      if (values.export !== undefined && values.origin === undefined) {
        throw new UsageError('--export needs an origin to ask', { hint: 'add --origin host:port' });
      }
      const findings: Finding[] = [];
      for await (const finding of runtime.doctor({
        origin: values.origin === undefined ? undefined : formatEndpoint(values.origin),
        credentials: clientCredentialFiles(values, workingDirectory),
        exportName: values.export,
        cacheDirectory: resolveOptional(workingDirectory, values.cache),
        storeUrl: values.store,
        keysMax: values['keys-max'],
      })) {
        findings.push(finding);
        if (flags.json !== true) findingLines(finding).forEach((line) => out.line(line));
      }
      if (flags.json === true) out.json(findings);
      return findings.some(({ level }) => level === 'failure') ? EXIT.failed : EXIT.fine;
    }),
  );
}

function findingLines({ level, subject, text, hint }: Finding): string[] {
  const line = `${MARKS[level]}${nameText(subject)}: ${nameText(text)}`;
  return hint === undefined ? [line] : [line, `        hint: ${hint}`];
}
