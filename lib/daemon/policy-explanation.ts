/** What policies mean for a path of a mount: who decides, who does not and why, and what the tier has of it. */
import type { BlockCache } from '../../cache/block-cache.ts';
import { ROOT_INODE } from '../base/brand.ts';
import type { PolicyExplanation } from '../control/control.ts';
import type { InodeAttributes, Namespace } from '../namespace/namespace.ts';
import { SETTING_NAMES } from '../policy/policy.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';

export async function explainPath(
  path: string,
  parts: { readonly cache: BlockCache; readonly names: Namespace; readonly policies: PolicyHolder },
): Promise<PolicyExplanation> {
  const { cache, names, policies } = parts;
  const attributes = await find(path, names);
  const kind = attributes?.kind ?? 'absent';
  const subject = {
    path: kind === 'directory' && path !== '' ? `${path}/` : path,
    sizeBytes: kind === 'directory' ? undefined : attributes?.sizeBytes,
  };
  const { decision, policies: judged } = policies.explain(subject);
  const version = attributes?.source?.version;
  const cached = version && cache.list({ path }).find((one) => one.version === version);
  return {
    ...subject,
    exportName: policies.exportName,
    kind,
    documentVersion: policies.version,
    host: policies.host.name,
    labels: policies.host.labels,
    settings: SETTING_NAMES.map((name) => {
      const { value, policy, reason } = decision.rulings[name];
      return { name, value: value ?? null, policy, reason };
    }),
    policies: judged,
    ...(kind === 'file' ? { cachedBytes: cached ? cached.cachedBytes : 0 } : {}),
  };
}

/** Undefined: nothing is there. */
async function find(path: string, names: Namespace): Promise<InodeAttributes | undefined> {
  let at = await names.attributes(ROOT_INODE);
  for (const name of path.split('/').filter(Boolean)) {
    if (at.kind !== 'directory') return undefined;
    const next = await names.lookup(at.inode, name);
    if (next === undefined) return undefined;
    at = next;
  }
  return at;
}
