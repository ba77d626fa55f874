/** Settings that every long-lived process has: where it can be watched, and how much it logs. */
import { type Settings, setting } from './settings.ts';
import { choiceSchema, type Endpoint, endpointSchema } from './values.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

export const processSettings = {
  metrics: setting<Endpoint | undefined>({
    schema: endpointSchema('listen'),
    description: 'serve /metrics, /healthz and /readyz there',
    placeholder: 'host:port',
    fallback: { value: undefined },
  }),
  'log-level': setting<(typeof LOG_LEVELS)[number]>({
    schema: choiceSchema(LOG_LEVELS),
    description: `least level that is logged: ${LOG_LEVELS.join(', ')}`,
    placeholder: 'level',
    fallback: { value: 'info', text: 'info' },
  }),
} satisfies Settings;
