/** The settings of an origin. */
import { UsageError } from '../base/errors.ts';
import { exportsSchema } from './names.ts';
import { processSettings } from './process-settings.ts';
import { type Settings, setting, type ValuesOf } from './settings.ts';
import { type Endpoint, endpointSchema, pathSchema, switchSchema } from './values.ts';

const LISTEN_DEFAULT: Endpoint = { host: '127.0.0.1', port: 7420 };

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
  insecure: setting({
    schema: switchSchema,
    description: 'accept calls from other hosts in plain text',
    fallback: { value: false },
  }),
  ...processSettings,
} satisfies Settings;

/** What single values cannot tell. */
export function checkOriginSettings({ listen, insecure }: ValuesOf<typeof originSettings>): void {
  const { host } = listen;
  const loopback = host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
  if (!loopback && !insecure) {
    throw new UsageError(`--listen ${host} is reached from other hosts, and calls are not encrypted yet`, {
      hint: 'listen on 127.0.0.1, or add --insecure inside a network that you trust',
    });
  }
}
