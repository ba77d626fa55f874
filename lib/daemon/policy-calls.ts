/** Policies through their origin, and the names that a plan looks at. */
import os from 'node:os';
import { type InodeNumber, ROOT_INODE } from '../base/brand.ts';
import { systemClock } from '../base/clock.ts';
import { LIST_PAGE_ENTRIES, ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type {
  FoundPath,
  ListedFile,
  PolicyCalls,
  PolicyCallsOptions,
  PolicyChangeInfo,
  PolicyVersionInfo,
} from '../cli/policy-calls.ts';
import type { InodeAttributes } from '../namespace/namespace.ts';
import { openOriginNames } from '../namespace/origin-names.ts';
import type { RemoteNames } from '../namespace/remote-names.ts';
import type { ChangePoliciesResponse, PolicyVersion } from '../rpc/gen/origin_pb.js';
import { createOriginClient } from '../rpc/origin-client.ts';
import { createLogger } from '../telemetry/log.ts';

export function openPolicyCalls({ origin, credentials }: PolicyCallsOptions): PolicyCalls {
  const clock = systemClock;
  const client = createOriginClient({ address: origin, credentials, clock, deadlineMs: ORIGIN_DEADLINE_MS });
  const opened = new Map<string, Promise<RemoteNames>>();
  const namesOf = (exportName: string): Promise<RemoteNames> => {
    const names =
      opened.get(exportName) ??
      openOriginNames({
        ...{ address: origin, credentials, exportName, clock },
        host: os.hostname(),
        logger: createLogger({ level: 'silent' }),
      }).then(({ remote }) => remote);
    opened.set(exportName, names);
    return names;
  };
  return {
    async document(version = 0) {
      const got = await client.getPolicies({ version: BigInt(version) });
      return { version: versionOf(got.version), text: got.document };
    },
    async history(versionsMax) {
      const { versions, more } = await client.getPolicyHistory({ versionsMax });
      return { versions: versions.map(versionOf), more };
    },
    apply: async (document, { dryRun }) => changeOf(await client.applyPolicies({ document, dryRun })),
    delete: async (name) => changeOf(await client.deletePolicy({ name })),
    rollback: async (version) => changeOf(await client.rollbackPolicies({ version: BigInt(version) })),
    async exportNames() {
      return (await client.getOriginStatus({})).exports.map(({ name }) => name);
    },
    async *files(exportName, prefix) {
      yield* walk(await namesOf(exportName), prefix);
    },
    async find(exportName, path) {
      return find(await namesOf(exportName), path);
    },
    async close() {
      const names = await Promise.allSettled(opened.values());
      for (const one of names) if (one.status === 'fulfilled') await one.value.close();
      client.close();
    },
  };
}

async function find(
  names: RemoteNames,
  path: string,
): Promise<(FoundPath & { readonly inode: InodeNumber }) | undefined> {
  let { attributes: at }: { attributes: InodeAttributes } = await names.attributes(ROOT_INODE);
  for (const name of path.split('/').filter(Boolean)) {
    if (at.kind !== 'directory') return undefined;
    const { attributes } = await names.lookup(at.inode, name);
    if (attributes === undefined) return undefined;
    at = attributes;
  }
  return at;
}

/** Depth first; holds the directories that are still to be listed. */
async function* walk(names: RemoteNames, prefix: string): AsyncGenerator<readonly ListedFile[]> {
  const top = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  const root = await find(names, top);
  if (root?.kind !== 'directory') return;
  const open = [{ inode: root.inode, path: top }];
  for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
    for (let after: string | undefined = ''; after !== undefined;) {
      const page = await names.list(directory.inode, { after, entriesMax: LIST_PAGE_ENTRIES });
      const files: ListedFile[] = [];
      for (const { name, attributes } of page.entries) {
        const path = directory.path + name;
        if (!path.startsWith(prefix) && !`${path}/`.startsWith(prefix)) continue;
        if (attributes.kind === 'directory') open.push({ inode: attributes.inode, path: `${path}/` });
        if (attributes.kind === 'file') files.push({ path, sizeBytes: attributes.sizeBytes });
      }
      yield files;
      after = page.next;
    }
  }
}

function changeOf({ version, unchanged, warnings }: ChangePoliciesResponse): PolicyChangeInfo {
  return {
    version: versionOf(version),
    unchanged,
    warnings: warnings.map(({ line, column, message, hint }) => ({
      line,
      column,
      message,
      hint: hint || undefined,
    })),
  };
}

function versionOf(version: PolicyVersion | undefined): PolicyVersionInfo {
  return {
    version: Number(version?.version ?? 0),
    action: version?.action ?? '',
    subject: version?.subject ?? '',
    tenant: version?.tenant ?? '',
    host: version?.host ?? '',
    madeMs: Number(version?.madeMs ?? 0),
    policies: version?.policies ?? 0,
  };
}
