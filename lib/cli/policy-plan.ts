/**
 * `perigee policy plan`: what a document would mean, without anything changing. The origin's names are walked below the
 * prefixes of the document's policies, a page at a time and up to a bound; what a satellite's cache would have to hold
 * is known for the mounts of this host.
 */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { compilePolicies } from '../policy/engine.ts';
import { parsePolicyDocument } from '../policy/policy-document.ts';
import type { Policy } from '../policy/policy.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT } from './environment.ts';
import { bytesText, countText, tableText } from './format.ts';
import { type Flags } from './options.ts';
import { withOrigin } from './origin-option.ts';
import { type PolicyCalls } from './policy-calls.ts';
import { readDocumentFile, warningText, withPolicies } from './policy-origin.ts';
import { matchText } from './policy-show.ts';

const FILES_MAX_DEFAULT = 1_000_000;
const FILES_MAX_MOST = 1_000_000_000;

interface PlannedPolicy {
  readonly name: string;
  readonly change: 'new' | 'changed' | 'same';
  readonly policy: Policy;
  files: number;
  bytes: number;
  /** Of these, where at least one setting comes from it, on hosts that it is for. */
  decidedFiles: number;
}

interface CacheShare {
  readonly mountpoint: string;
  readonly policy: string;
  readonly bytes: number;
  readonly capacityBytes: number;
}

export function policyPlanCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('plan', {
    description: 'What a document would change and which files it is about; nothing changes.',
    examples: ['perigee policy plan -f policies.yaml --origin 10.0.0.1:7420'],
  })
    .requiredOption('-f, --file <file>', 'the document, YAML or JSON; - for standard input')
    .option('--files-max <count>', `look at so many files at most (default ${FILES_MAX_DEFAULT})`);
  return withOrigin(command).action(
    act(context, async (flags: Flags & { readonly file: string; readonly filesMax?: string }) => {
      const filesMax = filesMaxOf(flags.filesMax);
      const { file, text, document } = await readDocumentFile(flags.file, context);
      return withPolicies({ flags, context }, async (calls, origin) => {
        const { version, text: before } = await calls.document();
        const { warnings } = await calls.apply(text, { dryRun: true });
        const changes = compare(parsePolicyDocument(before).policies, document.policies);
        const seen = await count(changes.planned, { calls, filesMax });
        const shares = await sharesOf(changes.planned, { origin, context });
        for (const warning of warnings) out.note(warningText(warning, file));
        if (flags.json === true) {
          const policies = changes.planned.map(({ policy: _, ...planned }) => planned);
          out.json({
            version: version.version,
            policies,
            removed: changes.removed,
            shares,
            warnings,
            ...seen,
          });
        } else tell({ ...changes, ...seen, shares, version: version.version }, context);
        return seen.isCut ? EXIT.partly : EXIT.fine;
      });
    }),
  );
}

function compare(before: readonly Policy[], after: readonly Policy[]) {
  const known = new Map(before.map((policy) => [policy.name, JSON.stringify(policy)]));
  const planned = after.map((policy): PlannedPolicy => {
    const was = known.get(policy.name);
    const change = was === undefined ? 'new' : was === JSON.stringify(policy) ? 'same' : 'changed';
    return { name: policy.name, change, policy, files: 0, bytes: 0, decidedFiles: 0 };
  });
  const names = new Set(after.map(({ name }) => name));
  return { planned, removed: [...known.keys()].filter((name) => !names.has(name)) };
}

async function count(
  planned: readonly PlannedPolicy[],
  { calls, filesMax }: { readonly calls: PolicyCalls; readonly filesMax: number },
): Promise<{ readonly filesSeen: number; readonly isCut: boolean }> {
  const all = compilePolicies(planned.map(({ policy }) => policy));
  let filesSeen = 0;
  for (const exportName of await calls.exportNames()) {
    const about = planned.filter(
      ({ policy: { match } }) => match.export === undefined || match.export === exportName,
    );
    const each = about.map((one) => ({ one, alone: compilePolicies([one.policy]) }));
    for (const prefix of shortest(about.map(({ policy }) => policy.match.prefix))) {
      for await (const files of calls.files(exportName, prefix)) {
        for (const { path, sizeBytes } of files) {
          if (filesSeen === filesMax) return { filesSeen, isCut: true };
          filesSeen++;
          for (const { one, alone } of each) {
            // As a host sees it that the policy is for.
            const host = { name: '', labels: one.policy.match.labels ?? {} };
            const subject = { exportName, path, sizeBytes, host };
            if (alone.decide(subject).deciding.length === 0) continue;
            one.files++;
            one.bytes += sizeBytes;
            if (all.decide(subject).deciding.includes(one.name)) one.decidedFiles++;
          }
        }
      }
    }
  }
  return { filesSeen, isCut: false };
}

/** Those that no other one covers. */
function shortest(prefixes: readonly string[]): string[] {
  const sorted = [...new Set(prefixes)].sort();
  return sorted.filter((prefix) => !sorted.some((other) => other !== prefix && prefix.startsWith(other)));
}

/** Of the mounts of this host that belong to the origin, by their labels. */
async function sharesOf(
  planned: readonly PlannedPolicy[],
  { origin, context }: { readonly origin: string; readonly context: CommandContext },
): Promise<readonly CacheShare[]> {
  const { runtime } = context;
  const shares = (await runtime.mounts()).map(async (mountpoint): Promise<readonly CacheShare[]> => {
    try {
      const status = await (await runtime.control(mountpoint)).status();
      if (status.origin !== origin) return [];
      return planned.flatMap(({ policy: { match }, name, bytes }) => {
        const { labels, exportName } = { ...status };
        if (match.export !== undefined && match.export !== exportName) return [];
        const wanted = Object.entries(match.labels ?? {}).filter(([label]) => label !== 'host');
        if (wanted.some(([label, value]) => labels[label] !== value)) return [];
        return [{ mountpoint, policy: name, bytes, capacityBytes: status.cache.capacityBytes }];
      });
    } catch {
      return []; // A mount that does not answer has no cache that we know of.
    }
  });
  return (await Promise.all(shares)).flat();
}

function tell(
  plan: ReturnType<typeof compare> & {
    readonly version: number;
    readonly filesSeen: number;
    readonly isCut: boolean;
    readonly shares: readonly CacheShare[];
  },
  { out }: CommandContext,
): void {
  const { planned, removed, filesSeen, isCut, shares, version } = plan;
  const counted = (change: string): number => planned.filter((policy) => policy.change === change).length;
  out.line(
    `version ${version} holds: ${counted('new')} new, ${counted('changed')} changed, ` +
      `${removed.length} removed, ${counted('same')} the same`,
  );
  if (removed.length > 0) out.line(`removed: ${removed.join(', ')}`);
  const count = (value: number): string => value.toLocaleString('en-US');
  if (planned.length > 0) {
    const rows = planned.map(({ name, change, files, bytes, decidedFiles, policy }) => [
      ...[name, change, count(files), bytesText(bytes), count(decidedFiles), matchText(policy)],
    ]);
    tableText([['POLICY', 'CHANGE', 'FILES', 'BYTES', 'DECIDES', 'MATCH'], ...rows]).forEach((line) =>
      out.line(line),
    );
  }
  for (const { mountpoint, policy, bytes, capacityBytes } of shares) {
    const percent = capacityBytes === 0 ? 0 : (100 * bytes) / capacityBytes;
    const over = percent > 100 ? ', more than it can hold' : '';
    out.line(
      `${mountpoint}: ${policy} is ${percent.toFixed(1)}% of the cache of ${bytesText(capacityBytes)}${over}`,
    );
  }
  out.line(`looked at ${countText(filesSeen, 'file')}; caches of other hosts are not known here`);
  if (isCut)
    out.note('note: cut there: there are more files, and the counts are too low; --files-max looks at more');
}

/** @throws UsageError */
function filesMaxOf(given: string | undefined): number {
  if (given === undefined) return FILES_MAX_DEFAULT;
  const count = /^\d{1,10}$/.test(given) ? Number(given) : 0;
  if (count >= 1 && count <= FILES_MAX_MOST) return count;
  throw new UsageError(`--files-max: ${JSON.stringify(given)} is not a number from 1 to ${FILES_MAX_MOST}`, {
    hint: `leave it out for ${FILES_MAX_DEFAULT}`,
  });
}
