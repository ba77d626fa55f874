/** Settings of everything that connects to an origin: what it shows, and how it knows the origin. */
import { optionalFile, resolveOptional } from './file-settings.ts';
import { type Settings, setting, type ValuesOf } from './settings.ts';
import { switchSchema } from './values.ts';

export const clientSettings = {
  'tls-cert': optionalFile('certificate of this host for the origin (PEM)'),
  'tls-key': optionalFile('its private key (PEM)'),
  'tls-ca': optionalFile('the authority that the origin has its certificate from (PEM); turns encryption on'),
  'token-file': optionalFile('file with the token to show the origin'),
  insecure: setting({
    schema: switchSchema,
    description: 'send the token to another host in plain text',
    fallback: { value: false },
  }),
} satisfies Settings;

/** The files by absolute path. */
export function clientCredentialFiles(values: ValuesOf<typeof clientSettings>, workingDirectory: string) {
  const absolute = (file: string | undefined) => resolveOptional(workingDirectory, file);
  return {
    tlsCert: absolute(values['tls-cert']),
    tlsKey: absolute(values['tls-key']),
    tlsCa: absolute(values['tls-ca']),
    tokenFile: absolute(values['token-file']),
    insecure: values.insecure,
  };
}
