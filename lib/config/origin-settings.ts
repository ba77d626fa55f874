/** The settings of an origin. */
import { UsageError } from '../base/errors.ts';
import { type AccessLists, accessListsSchema } from './access-lists.ts';
import { optionalFile, resolveOptional } from './file-settings.ts';
import { exportsSchema } from './names.ts';
import { processSettings } from './process-settings.ts';
import { type Settings, setting, type ValuesOf } from './settings.ts';
import { durationSchema, type Endpoint, endpointSchema, pathSchema, switchSchema } from './values.ts';

const LISTEN_DEFAULT: Endpoint = { host: '127.0.0.1', port: 7420 };

/** Below it heartbeats and clock margins are all there is; above it, one lost satellite holds changes up for too long. */
const LEASE_TERM_MIN_MS = 1_000;
const LEASE_TERM_MAX_MS = 10 * 60_000;
const LEASE_TERM_DEFAULT_MS = 20_000;
const LEASE_QUIET_DEFAULT_MS = 10_000;

export const originSettings = {
  data: setting({
    schema: pathSchema,
    description: "directory of the origin's index",
    placeholder: 'directory',
  }),
  listen: setting({
    schema: endpointSchema('listen'),
    description: 'where satellites connect',
    placeholder: 'host:port',
    fallback: { value: LISTEN_DEFAULT, text: '127.0.0.1:7420' },
  }),
  exports: setting({
    schema: exportsSchema,
    description: 'an export and the object store it is served from; may be repeated',
    placeholder: 'name=url',
    flag: 'export',
  }),
  'tls-cert': optionalFile('certificate of this origin (PEM); turns encryption on'),
  'tls-key': optionalFile('its private key (PEM)'),
  'tls-ca': optionalFile('the authority that clients must have a certificate from (PEM)'),
  tokens: optionalFile('file of the tokens that are accepted (YAML)'),
  access: setting<AccessLists>({
    schema: accessListsSchema,
    description: 'a tenant that may use an export, and its role there (read, write, admin); may be repeated',
    placeholder: 'export=tenant:role',
    flag: 'allow',
    fallback: { value: {} },
  }),
  'lease-term': setting({
    schema: durationSchema({ minMs: LEASE_TERM_MIN_MS, maxMs: LEASE_TERM_MAX_MS }),
    description: 'how long a satellite may use names after it has heard from the origin',
    placeholder: 'duration',
    fallback: { value: LEASE_TERM_DEFAULT_MS, text: '20s' },
  }),
  'lease-quiet': setting({
    schema: durationSchema({ minMs: 0, maxMs: LEASE_TERM_MAX_MS }),
    description: 'a directory below which nothing changed for so long is leased whole',
    placeholder: 'duration',
    fallback: { value: LEASE_QUIET_DEFAULT_MS, text: '10s' },
  }),
  insecure: setting({
    schema: switchSchema,
    description: 'accept calls from other hosts in plain text',
    fallback: { value: false },
  }),
  events: setting<Endpoint | undefined>({
    schema: endpointSchema('listen'),
    description: 'take notifications of object stores there (POST /events)',
    placeholder: 'host:port',
    fallback: { value: undefined },
  }),
  'events-token': optionalFile('file with the token that senders of notifications must bear'),
  ...processSettings,
} satisfies Settings;

/** What single values cannot tell. */
export function checkOriginSettings({ exports, access }: ValuesOf<typeof originSettings>): void {
  const stranger = Object.keys(access).find((name) => !exports.some((served) => served.name === name));
  if (stranger === undefined) return;
  throw new UsageError(`--allow names the export ${stranger}, which is not served`, {
    hint: `the exports are ${exports.map(({ name }) => name).join(', ')}`,
  });
}

/** The files by absolute path. */
export function serverCredentialFiles(values: ValuesOf<typeof originSettings>, workingDirectory: string) {
  const absolute = (file: string | undefined) => resolveOptional(workingDirectory, file);
  return {
    tlsCert: absolute(values['tls-cert']),
    tlsKey: absolute(values['tls-key']),
    tlsCa: absolute(values['tls-ca']),
    tokens: absolute(values.tokens),
  };
}
