/** Who may do what: every method of the schema, every role, with and without lists. */
import fc from 'fast-check';
import t from 'tap';
import { type AccessLists, ROLES } from '../../lib/config/access-lists.ts';
import { createAccess } from '../../lib/origin/services/access.ts';
import * as schema from '../../lib/rpc/gen/origin_pb.js';
import { AccessError, type Principal } from '../../lib/rpc/principal.ts';

const exportNames = ['a', 'b'];
const services = Object.values(schema).filter((one) => 'kind' in one && one.kind === 'service');
const methods = services.flatMap((service) => service.methods.map(({ name }) => name));

function principal(role: Principal['role'], tenant = 't1'): Principal {
  return { tenant, host: 'h1', role, provenBy: 'certificate' };
}

/** The reason of the refusal, `not-found`, or `allowed`. */
function outcome(
  lists: AccessLists,
  call: { readonly who: Principal; readonly method: string; readonly exportName?: string },
): string {
  const { authorize } = createAccess({ exportNames, lists });
  try {
    authorize(call.who, { method: call.method, exportName: call.exportName ?? 'a' });
    return 'allowed';
  } catch (error) {
    return error instanceof AccessError ? error.reason : (error as { code: string }).code;
  }
}

/** Found by trying, without a list. */
const leastRole = new Map(
  methods.map((method) => [
    method,
    ROLES.find((role) => outcome({}, { who: principal(role), method }) === 'allowed') ?? 'nobody',
  ]),
);

t.test('every method of the schema has a role', async (t) => {
  t.same(Object.fromEntries(leastRole), {
    OpenExport: 'read',
    Lookup: 'read',
    GetAttributes: 'read',
    ListDirectory: 'read',
    GetUsage: 'read',
    ReportStale: 'read',
    Session: 'read',
    ListSessions: 'admin',
    ListLeases: 'admin',
    BeginUpload: 'write',
    CommitUpload: 'write',
    AbortUpload: 'write',
    Remove: 'write',
    Rename: 'write',
    MakeDirectory: 'write',
    Refresh: 'admin',
    OpenWrite: 'write',
    BeginWriteUpload: 'write',
    CommitWrite: 'write',
    EndWrite: 'write',
    ReclaimWrites: 'write',
    MakeName: 'write',
    RemoveName: 'write',
    RenameName: 'write',
    SetAttributes: 'write',
    GetOriginStatus: 'read',
    InspectKeys: 'admin',
    GetPolicies: 'read',
    GetPolicyHistory: 'read',
    ApplyPolicies: 'admin',
    DeletePolicy: 'admin',
    RollbackPolicies: 'admin',
  });
});

t.test('a method that no table names is refused to everybody', async (t) => {
  t.equal(outcome({}, { who: principal('admin'), method: 'FormatDisk' }), 'method');
  t.equal(outcome({}, { who: principal('admin'), method: 'lookup' }), 'method');
  t.equal(outcome({}, { who: principal('admin'), method: 'constructor' }), 'method');
});

t.test('a list closes its export to tenants that are not on it, and only that export', async (t) => {
  const lists: AccessLists = { a: [{ tenant: 't1', role: 'read' }] };
  t.equal(outcome(lists, { who: principal('admin'), method: 'Lookup' }), 'allowed');
  t.equal(outcome(lists, { who: principal('admin'), method: 'Remove' }), 'role');
  t.equal(outcome(lists, { who: principal('admin', 't2'), method: 'Lookup' }), 'tenant');
  t.equal(outcome(lists, { who: principal('admin', 't2'), method: 'Remove', exportName: 'b' }), 'allowed');
  t.equal(
    outcome({ a: [] }, { who: principal('admin'), method: 'Lookup' }),
    'tenant',
    'an empty list lets nobody in',
  );
});

t.test('a call about all exports needs the role on each', async (t) => {
  const call = { who: principal('admin'), method: 'ListSessions', exportName: '' };
  t.equal(outcome({}, call), 'allowed');
  t.equal(outcome({ b: [{ tenant: 't1', role: 'write' }] }, call), 'role');
  t.equal(
    outcome({ b: [] }, { ...call, method: 'GetOriginStatus' }),
    'allowed',
    'but for one that tells each its own',
  );
});

t.test('an export that is not served is not found, and those of others are not named', async (t) => {
  const { authorize, mayRead } = createAccess({
    exportNames,
    lists: { b: [{ tenant: 't2', role: 'read' }] },
  });
  t.throws(() => authorize(principal('read'), { method: 'Lookup', exportName: 'c' }), {
    code: 'not-found',
    hint: 'this origin serves a',
  });
  t.throws(() => authorize(principal('read'), { method: 'Lookup', exportName: '__proto__' }), {
    code: 'not-found',
  });
  t.ok(mayRead(principal('read'), 'a'));
  t.notOk(mayRead(principal('admin'), 'b'));
});

t.test('a refusal says which role is needed and which one is there', async (t) => {
  const { authorize } = createAccess({ exportNames, lists: { a: [{ tenant: '*', role: 'write' }] } });
  t.throws(() => authorize(principal('read'), { method: 'Remove', exportName: 'a' }), {
    code: 'denied',
    message: 'Remove needs the role write on the export a; h1 of the tenant t1 has read',
    hint: /certificate or token of the role write/,
  });
  t.throws(() => authorize(principal('admin'), { method: 'Refresh', exportName: 'a' }), {
    message: 'Refresh needs the role admin on the export a; h1 of the tenant t1 has write',
    hint: /access list of a/,
  });
});

t.test('the role on an export is the lesser of the own and the highest in the list', async (t) => {
  const role = fc.constantFrom(...ROLES);
  const rule = fc.record({ tenant: fc.constantFrom('t1', 't2', '*'), role });
  const property = fc.property(
    fc.option(fc.array(rule, { maxLength: 5 }), { nil: undefined }),
    role,
    fc.constantFrom(...methods),
    (rules, own, method) => {
      const needed = ROLES.findIndex((least) => least === leastRole.get(method));
      const granted = rules
        ?.filter(({ tenant }) => tenant === 't1' || tenant === '*')
        .map((r) => ROLES.indexOf(r.role));
      const has = Math.min(
        ROLES.indexOf(own),
        granted === undefined ? ROLES.length : Math.max(-1, ...granted),
      );
      const expected = method === 'GetOriginStatus' || has >= needed;
      const lists: AccessLists = rules === undefined ? {} : { a: rules };
      return (outcome(lists, { who: principal(own), method }) === 'allowed') === expected;
    },
  );
  fc.assert(property, { numRuns: 500 });
  t.pass('holds');
});
