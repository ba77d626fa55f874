/**
 * Who may do what: the role that each call needs, and the role that a principal has on an export.
 *
 * Guarantees: a call that stands in no table is refused; the role on an export is never more than the principal's own;
 * the answer depends on nothing but the configuration, and takes the same time for any number of tenants.
 */
import { type DescService } from '@bufbuild/protobuf';
import { invariant } from '../../base/errors.ts';
import { type AccessLists, type AccessRule, type Role } from '../../config/access-lists.ts';
import { type Authorize } from '../../rpc/gate.ts';
import {
  type ChangeService,
  type LeaseService,
  type OriginAdminService,
  type OriginService,
  type PolicyService,
  type WriteService,
} from '../../rpc/gen/origin_pb.js';
import { AccessError, includesRole, lesserRole, type Principal } from '../../rpc/principal.ts';
import { OriginError } from '../origin.ts';

export interface Access {
  readonly authorize: Authorize;
  readonly mayRead: (principal: Principal, exportName: string) => boolean;
  readonly mayWrite: (principal: Principal, exportName: string) => boolean;
}

/** What a call needs: on the export that it names, or `anywhere` if its handler tells each principal its own part. */
type Need = Role | 'anywhere';

const table: readonly (readonly [string, Need])[] = [
  ...needsOf<typeof OriginService>({
    openExport: 'read',
    lookup: 'read',
    getAttributes: 'read',
    listDirectory: 'read',
    getUsage: 'read',
    reportStale: 'read',
  }),
  ...needsOf<typeof LeaseService>({ session: 'read', listSessions: 'admin', listLeases: 'admin' }),
  ...needsOf<typeof ChangeService>({
    beginUpload: 'write',
    commitUpload: 'write',
    abortUpload: 'write',
    remove: 'write',
    rename: 'write',
    makeDirectory: 'write',
    refresh: 'admin',
  }),
  ...needsOf<typeof WriteService>({
    openWrite: 'write',
    beginWriteUpload: 'write',
    commitWrite: 'write',
    endWrite: 'write',
    reclaimWrites: 'write',
    makeName: 'write',
    removeName: 'write',
    renameName: 'write',
    setAttributes: 'write',
  }),
  ...needsOf<typeof OriginAdminService>({ getOriginStatus: 'anywhere', inspectKeys: 'admin' }),
  // One document for all exports: without the name of one, these take the role on each.
  ...needsOf<typeof PolicyService>({
    getPolicies: 'read',
    getPolicyHistory: 'read',
    applyPolicies: 'admin',
    deletePolicy: 'admin',
    rollbackPolicies: 'admin',
  }),
];
const needs: ReadonlyMap<string, Need> = new Map(table);
invariant(needs.size === table.length, 'no two services have a method of the same name');

/** A method that the schema has and the table has not is found by the compiler. */
function needsOf<Desc extends DescService>(
  table: Readonly<Record<keyof Desc['method'], Need>>,
): [string, Need][] {
  // The schema's names begin with a capital.
  return Object.entries<Need>(table).map(([name, need]) => [
    name.charAt(0).toUpperCase() + name.slice(1),
    need,
  ]);
}

export function createAccess({
  exportNames,
  lists,
}: {
  readonly exportNames: readonly string[];
  readonly lists: AccessLists;
}): Access {
  const rolesByExport = new Map(exportNames.map((name) => [name, rolesByTenant(lists[name])]));
  const roleOn = (principal: Principal, exportName: string): Role | undefined =>
    roleIn(rolesByExport.get(exportName), principal);
  const mayRead = (principal: Principal, exportName: string): boolean =>
    roleOn(principal, exportName) !== undefined;

  const mayWrite = (principal: Principal, exportName: string): boolean => {
    const role = roleOn(principal, exportName);
    return role !== undefined && includesRole(role, 'write');
  };

  return {
    mayRead,
    mayWrite,
    authorize(principal, { method, exportName }) {
      const need = needs.get(method);
      if (need === undefined) throw unknownMethod(method);
      if (need === 'anywhere') return;
      // Without a name it is about all exports, which takes the role on each.
      const named = exportName === '' ? exportNames : [exportName];
      for (const name of named) {
        if (!rolesByExport.has(name)) {
          throw unknownExport(
            name,
            exportNames.filter((served) => mayRead(principal, served)),
          );
        }
        const role = roleOn(principal, name);
        if (role === undefined || !includesRole(role, need))
          throw tooLow({ principal, method, need, name, role });
      }
    },
  };
}

/** The highest role of each tenant in a list; undefined: there is no list. */
function rolesByTenant(rules: readonly AccessRule[] | undefined): ReadonlyMap<string, Role> | undefined {
  if (rules === undefined) return undefined;
  const roles = new Map<string, Role>();
  for (const { tenant, role } of rules) {
    const before = roles.get(tenant);
    roles.set(tenant, before !== undefined && includesRole(before, role) ? before : role);
  }
  return roles;
}

function roleIn(roles: ReadonlyMap<string, Role> | undefined, { tenant, role }: Principal): Role | undefined {
  if (roles === undefined) return role;
  const [own, everyones] = [roles.get(tenant), roles.get('*')];
  const granted =
    own === undefined || (everyones !== undefined && includesRole(everyones, own)) ? everyones : own;
  return granted === undefined ? undefined : lesserRole(granted, role);
}

function tooLow(call: {
  readonly principal: Principal;
  readonly method: string;
  readonly need: Role;
  readonly name: string;
  readonly role: Role | undefined;
}): AccessError {
  const { principal, method, need, name, role } = call;
  const who = `${principal.host} of the tenant ${principal.tenant}`;
  if (role === undefined) {
    return new AccessError('tenant', `${who} has no access to the export ${name}`, {
      hint: `add the tenant to the access list of ${name} at the origin (--allow ${name}=${principal.tenant}:${need})`,
    });
  }
  return new AccessError(
    'role',
    `${method} needs the role ${need} on the export ${name}; ${who} has ${role}`,
    {
      hint:
        role === principal.role
          ? `use a certificate or token of the role ${need}`
          : `give the tenant the role ${need} in the access list of ${name} at the origin`,
    },
  );
}

function unknownMethod(method: string): AccessError {
  return new AccessError('method', `nobody may call ${method}: this release has no rule for it`, {
    hint: 'run the same release on both sides',
  });
}

function unknownExport(name: string, readable: readonly string[]): OriginError {
  return new OriginError('not-found', `there is no export "${name.slice(0, 64)}"`, {
    hint:
      readable.length === 0 ? 'ask the operator of the origin' : `this origin serves ${readable.join(', ')}`,
  });
}
