/**
 * The calls about policies. A satellite's watch is told the set that holds, and after each change the newest one: who
 * is slow misses versions between, never the last.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ChangePoliciesResponseSchema,
  PolicyService,
  PolicyVersionSchema,
} from '../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../rpc/unary-handler.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import type { PolicyChange, PolicyStore, PolicyVersion } from './policy-store.ts';
import { findExport } from './served-export.ts';

const HISTORY_VERSIONS_MAX = 1_000;

export function createPolicyService(
  context: Pick<ServiceContext, 'clock' | 'exports' | 'logger' | 'metrics'> & {
    readonly policies: PolicyStore;
  },
): RpcServiceImpl<typeof PolicyService> {
  const { exports, logger, metrics, policies } = context;
  const answer = createAnswer(context);
  const changed = (change: PolicyChange) => {
    const { version, action, subject, tenant, host } = change.version;
    if (!change.unchanged) logger.info({ version, action, subject, tenant, host }, 'policies changed');
    return changeMessage(change);
  };
  return {
    async *watchPolicies({ exportName }, { signal }) {
      let code = 'ok';
      const changes = new Changes(policies, signal);
      try {
        findExport(exports, exportName);
        do {
          const { version, document } = policies.setOf(exportName);
          yield { version: BigInt(version), document };
        } while (await changes.next());
      } catch (error) {
        code = rpcCodeOf(error);
        throw toConnectError(error);
      } finally {
        changes.end();
        metrics.originRequests.inc({ method: 'WatchPolicies', code });
      }
    },
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

/** Whether there was a change since the last time of asking; several are one. */
class Changes {
  readonly #stop: () => void;
  readonly #signal: AbortSignal;
  #pending = false;
  #wake: (() => void) | undefined;

  constructor(policies: PolicyStore, signal: AbortSignal) {
    this.#signal = signal;
    this.#stop = policies.listen(() => {
      this.#pending = true;
      this.#wake?.();
    });
    signal.addEventListener('abort', () => this.#wake?.(), { once: true });
  }

  /** Waits for the next one; false: nobody listens any more. */
  async next(): Promise<boolean> {
    if (!this.#pending && !this.#signal.aborted) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
    this.#pending = false;
    return !this.#signal.aborted;
  }

  end(): void {
    this.#stop();
  }
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
