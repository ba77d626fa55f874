/** `perigee policy list`, `show` and `history`. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { parsePolicyDocument, policyText } from '../policy/policy-document.ts';
import type { Policy } from '../policy/policy.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { bytesText, nameText, tableText } from './format.ts';
import { type Flags } from './options.ts';
import { withOrigin } from './origin-option.ts';
import { type PolicyVersionInfo } from './policy-calls.ts';
import { outcomeLines, outcomesOf } from './policy-outcomes.ts';
import { withPolicies } from './policy-origin.ts';

const VERSIONS_SHOWN = 20;
const VERSIONS_MAX = 1_000;

export function policyListCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('list', {
    description: 'The policies of the document that holds.',
    examples: ['perigee policy list', 'perigee policy list --origin 10.0.0.1:7420 --json'],
  });
  return withOrigin(command).action(
    act(context, async (flags: Flags) => {
      const { version, text } = await withPolicies({ flags, context }, (calls) => calls.document());
      const { policies } = parsePolicyDocument(text);
      if (flags.json === true) return out.json({ version: version.version, policies });
      if (policies.length === 0) return out.line(`no policies (version ${version.version})`);
      const rows = [['NAME', 'STATES', 'MATCH'], ...policies.map(policyRow)];
      tableText(rows).forEach((line) => out.line(line));
    }),
  );
}

function policyRow(policy: Policy): string[] {
  const sections = new Set(Object.keys(policy.states).map((name) => name.split('.')[0]!));
  return [policy.name, [...sections].join(',') || '-', matchText(policy)];
}

/** For people, in one line. */
export function matchText({ match }: Policy): string {
  const { export: exportName, prefix, glob, size, labels } = match;
  const { minBytes = 0, maxBytes = Number.MAX_SAFE_INTEGER } = size ?? {};
  const parts = [
    exportName ?? '',
    prefix === '' ? '' : nameText(prefix),
    glob === undefined ? '' : nameText(glob),
    minBytes > 0 ? `>= ${bytesText(minBytes)}` : '',
    maxBytes < Number.MAX_SAFE_INTEGER ? `<= ${bytesText(maxBytes)}` : '',
    ...Object.entries(labels ?? {}).map(([name, value]) => `${name}=${nameText(value)}`),
  ].filter(Boolean);
  return parts.join('  ') || 'everything';
}

export function policyShowCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('show', {
    description:
      'One policy as it is written, and what became of what it fetched ahead on this host; without a name the whole document, of an earlier version if asked.',
    examples: [
      'perigee policy show imagenet --origin 10.0.0.1:7420',
      'perigee policy show --at 3 --origin 10.0.0.1:7420',
    ],
  })
    .argument('[name]', 'name of the policy')
    .option('--at <version>', 'of this version');
  return withOrigin(command).action(
    act(context, async (name: string | undefined, flags: Flags & { readonly at?: string }) => {
      const wanted = numberOf(flags.at, '--at');
      const { version, text, mounts } = await withPolicies({ flags, context }, async (calls, origin) => ({
        ...(await calls.document(wanted)),
        mounts: name === undefined ? [] : await outcomesOf(name, { origin, context }),
      }));
      const shown = name === undefined ? text : policyText(text, name);
      if (flags.json === true) return out.json({ version, text: shown, mounts });
      out.line(shown.trimEnd());
      outcomeLines(mounts).forEach((line) => out.line(line));
    }),
  );
}

export function policyHistoryCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('history', {
    description: 'The versions of the document, newest first, with who made them.',
    examples: ['perigee policy history', 'perigee policy history --last 100 --json'],
  }).option('--last <count>', `so many (default ${VERSIONS_SHOWN})`);
  return withOrigin(command).action(
    act(context, async (flags: Flags & { readonly last?: string }) => {
      const count = Math.min(numberOf(flags.last, '--last') ?? VERSIONS_SHOWN, VERSIONS_MAX);
      const { versions, more } = await withPolicies({ flags, context }, (calls) => calls.history(count));
      if (flags.json === true) return out.json({ versions, more });
      if (versions.length === 0) return out.line('there never was a document');
      const rows = [['VERSION', 'WHEN (UTC)', 'POLICIES', 'CHANGE', 'BY'], ...versions.map(versionRow)];
      tableText(rows).forEach((line) => out.line(line));
      if (more) out.note('there are older ones; --last shows more');
    }),
  );
}

function versionRow({
  version,
  madeMs,
  policies,
  action,
  subject,
  tenant,
  host,
}: PolicyVersionInfo): string[] {
  const change = action === 'rollback' ? `rollback to ${subject}` : `${action} ${subject}`.trim();
  return [
    String(version),
    whenFormat.format(madeMs),
    String(policies),
    nameText(change),
    nameText(`${tenant}/${host}`),
  ];
}

/** In Swedish a date is written as everybody can sort it. */
const whenFormat = new Intl.DateTimeFormat('sv-SE', {
  dateStyle: 'short',
  timeStyle: 'medium',
  timeZone: 'UTC',
});

/** @throws UsageError */
function numberOf(given: string | undefined, flag: string): number | undefined {
  if (given === undefined) return undefined;
  if (/^[1-9]\d{0,14}$/.test(given)) return Number(given);
  throw new UsageError(`${flag}: ${JSON.stringify(given)} is not a number from 1 on`, {
    hint: 'perigee policy history shows the versions',
  });
}
