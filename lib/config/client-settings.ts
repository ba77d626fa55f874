/** Settings of everything that connects to an origin: what it shows, and how it knows the origin. */
import path from 'node:path';
import { type Settings, setting, type ValuesOf } from './settings.ts';
import { pathSchema, switchSchema } from './values.ts';

export const clientSettings = {
  'tls-cert': setting<string | undefined>({
    schema: pathSchema,
    description: 'certificate of this host for the origin (PEM)',
    placeholder: 'file',
    fallback: { value: undefined },
  }),
  'tls-key': setting<string | undefined>({
    schema: pathSchema,
    description: 'its private key (PEM)',
    placeholder: 'file',
    fallback: { value: undefined },
  }),
  'tls-ca': setting<string | undefined>({
    schema: pathSchema,
    description: 'the authority that the origin has its certificate from (PEM); turns encryption on',
    placeholder: 'file',
    fallback: { value: undefined },
  }),
  'token-file': setting<string | undefined>({
    schema: pathSchema,
    description: 'file with the token to show the origin',
    placeholder: 'file',
    fallback: { value: undefined },
  }),
  insecure: setting({
    schema: switchSchema,
    description: 'send the token to another host in plain text',
    fallback: { value: false },
  }),
} satisfies Settings;

/** The files by absolute path: a satellite in the background has another working directory. */
export function clientCredentialFiles(values: ValuesOf<typeof clientSettings>, workingDirectory: string) {
  const absolute = (file: string | undefined): string | undefined =>
    file === undefined ? undefined : path.resolve(workingDirectory, file);
  return {
    tlsCert: absolute(values['tls-cert']),
    tlsKey: absolute(values['tls-key']),
    tlsCa: absolute(values['tls-ca']),
    tokenFile: absolute(values['token-file']),
    insecure: values.insecure,
  };
}
