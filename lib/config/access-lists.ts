/** Who may do what on an export, as people write it: `EXPORT=TENANT:ROLE`, or in a file a list for each export. */
import { nearMiss } from './near-miss.ts';
import { pairsOf, textOf, valueSchema } from './values.ts';

/** In order: each includes the ones before it. */
export const ROLES = ['read', 'write', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export const TENANT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** One line of an export's list. */
export interface AccessRule {
  /** `*`: every one. */
  readonly tenant: string;
  readonly role: Role;
}

/** By export. One without a list is open to every principal in its own role. */
export type AccessLists = Readonly<Record<string, readonly AccessRule[]>>;

const HINT = 'write EXPORT=TENANT:ROLE, such as datasets=research:read; * stands for every tenant';

export const accessListsSchema = valueSchema<AccessLists>((given, refuse) => {
  const lists = new Map<string, AccessRule[]>();
  for (const entry of entriesOf(given)) {
    if (entry === undefined) return refuse('is not EXPORT=TENANT:ROLE', HINT);
    const [exportName, tenant, roleText] = entry;
    if (tenant !== '*' && !TENANT_NAME.test(tenant)) {
      return refuse(`has no valid tenant in ${JSON.stringify(tenant)}`, HINT);
    }
    const role = ROLES.find((known) => known === roleText);
    if (role === undefined) {
      const meant = nearMiss(roleText, ROLES);
      return refuse(
        `gives ${JSON.stringify(roleText)}, which is none of ${ROLES.join(', ')}`,
        meant === undefined ? HINT : `did you mean ${meant}?`,
      );
    }
    lists.set(exportName, [...(lists.get(exportName) ?? []), { tenant, role }]);
  }
  return Object.fromEntries(lists);
});

type Entry = readonly [exportName: string, tenant: string, role: string];

/** An undefined member is malformed. */
function entriesOf(given: unknown): readonly (Entry | undefined)[] {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) {
    return Object.entries(given).flatMap(([exportName, rules]) =>
      Array.isArray(rules) ? rules.map((rule: unknown) => entryOf(exportName, rule)) : [undefined],
    );
  }
  return pairsOf(given, /\s+/).map((pair) => {
    const [, tenant, role] = /^([^:]*):([^:]*)$/.exec(pair?.[1] ?? '') ?? [];
    return pair === undefined || tenant === undefined || role === undefined
      ? undefined
      : [pair[0], tenant, role];
  });
}

function entryOf(exportName: string, rule: unknown): Entry | undefined {
  if (typeof rule !== 'object' || rule === null) return undefined;
  const { tenant, role, ...more } = rule as Record<string, unknown>;
  return Object.keys(more).length > 0 ? undefined : [exportName, textOf(tenant), textOf(role)];
}
