/** Settings of `perigee origin init` and `perigee origin certify`. */
import { type Role, ROLES, TENANT_NAME } from './access-lists.ts';
import { originSettings } from './origin-settings.ts';
import { type Settings, setting } from './settings.ts';
import { choiceSchema, durationSchema, switchSchema, textOf, valueSchema } from './values.ts';

const DAY_MS = 24 * 60 * 60_000;
const VALID_MS_MIN = 60_000;

/** Of hosts and people; file names are made of them. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}$/;

const namesSchema = valueSchema<readonly string[]>((given, refuse) => {
  const names = Array.isArray(given) ? given.map(textOf) : textOf(given).split(',').filter(Boolean);
  const wrong = names.find((name) => !NAME.test(name));
  if (wrong === undefined) return [...new Set(names)];
  return refuse(`has no valid name in ${JSON.stringify(wrong)}`, 'give the name or the address of a host');
});

const tenantSchema = valueSchema<string>((given, refuse) => {
  const tenant = textOf(given);
  if (TENANT_NAME.test(tenant)) return tenant;
  return refuse('is no name of a tenant', 'use up to 64 letters, digits, ".", "_" and "-"');
});

const names = (flag: string, description: string) =>
  setting({ schema: namesSchema, description, placeholder: 'name', flag, fallback: { value: [] } });

export const authoritySettings = {
  data: originSettings.data,
  hosts: names('host', 'a name or address by which the origin is reached; may be repeated'),
  satellites: names('satellite', 'a host that mounts; may be repeated'),
  admins: names('admin', 'a person or host with the role admin; may be repeated'),
  tenant: setting({
    schema: tenantSchema,
    description: 'the tenant of the satellites and admins',
    placeholder: 'name',
    fallback: { value: 'default', text: 'default' },
  }),
  role: setting<Role>({
    schema: choiceSchema(ROLES),
    description: `role of the satellites: ${ROLES.join(', ')}`,
    placeholder: 'role',
    fallback: { value: 'write', text: 'write' },
  }),
  valid: setting({
    schema: durationSchema({ minMs: VALID_MS_MIN }),
    description: 'how long the certificates are valid; the authority is for ten years',
    placeholder: 'duration',
    fallback: { value: 365 * DAY_MS, text: '365d' },
  }),
} satisfies Settings;

export const replaceSetting = {
  replace: setting({
    schema: switchSchema,
    description: 'exchange certificates of these names that are there',
    fallback: { value: false },
  }),
} satisfies Settings;
