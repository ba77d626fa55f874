/** The calls of people and tools about policies. Satellites are told of them by the stream of their session. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ChangePoliciesResponseSchema,
  PolicyService,
  PolicyVersionSchema,
} from '../../rpc/gen/origin_pb.js';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import type { PolicyChange, PolicyStore, PolicyVersion } from './policy-store.ts';

const HISTORY_VERSIONS_MAX = 1_000;

export function createPolicyService(
  context: Pick<ServiceContext, 'clock' | 'exports' | 'logger' | 'metrics'> & {
    readonly policies: PolicyStore;
  },
): RpcServiceImpl<typeof PolicyService> {
  const { logger, policies } = context;
  const answer = createAnswer(context);
  const changed = (change: PolicyChange) => {
    const { version, action, subject, tenant, host } = change.version;
    if (!change.unchanged) logger.info({ version, action, subject, tenant, host }, 'policies changed');
    return changeMessage(change);
  };
  return {
    getPolicies: ({ version }) =>
      answer('GetPolicies', async () => {
        const row = policies.get(version === 0n ? undefined : Number(version));
        return { version: versionMessage(row), document: row.document };
      }),
    getPolicyHistory: ({ versionsMax }) =>
      answer('GetPolicyHistory', async () => {
        const { versions, more } = policies.history(
          Math.min(versionsMax || HISTORY_VERSIONS_MAX, HISTORY_VERSIONS_MAX),
        );
        return { versions: versions.map(versionMessage), more };
      }),
    applyPolicies: ({ document, dryRun }, { principal }) =>
      answer('ApplyPolicies', async () =>
        dryRun ? changeMessage(policies.review(document)) : changed(policies.apply(document, principal)),
      ),
    deletePolicy: ({ name }, { principal }) =>
      answer('DeletePolicy', async () => changed(policies.delete(name, principal))),
    rollbackPolicies: ({ version }, { principal }) =>
      answer('RollbackPolicies', async () => changed(policies.rollback(Number(version), principal))),
  };
}

function changeMessage({
  version,
  unchanged,
  warnings,
}: PolicyChange): MessageInitShape<typeof ChangePoliciesResponseSchema> {
  return {
    version: versionMessage(version),
    unchanged,
    warnings: warnings.map(({ hint, ...warning }) => ({ ...warning, hint: hint ?? '' })),
  };
}

function versionMessage(version: PolicyVersion): MessageInitShape<typeof PolicyVersionSchema> {
  const { made_ms: madeMs, version: number, action, subject, tenant, host, policies } = version;
  return { version: BigInt(number), action, subject, tenant, host, madeMs: BigInt(madeMs), policies };
}
