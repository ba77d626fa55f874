/** `perigee policy explain`: which policies decide about a path, which do not and why, and what comes of it. */
import { type Command } from 'commander';
import ms from 'ms';
import os from 'node:os';
import { exportNameSchema } from '../config/names.ts';
import { type Settings, setting } from '../config/settings.ts';
import { labelsSchema } from '../config/values.ts';
import type { PolicyExplanation } from '../control/control.ts';
import { compilePolicies } from '../policy/engine.ts';
import { parsePolicyDocument } from '../policy/policy-document.ts';
import { SETTING_NAMES } from '../policy/policy.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { bytesText, nameText, tableText } from './format.ts';
import { findMountPath } from './mount-path.ts';
import { addSettings, type Flags, resolveFlags } from './options.ts';
import { withOrigin } from './origin-option.ts';
import { type PolicyCalls } from './policy-calls.ts';
import { withPolicies } from './policy-origin.ts';

const explainSettings = {
  export: setting<string | undefined>({
    schema: exportNameSchema,
    description: 'ask the origin about a path of this export, without a mount',
    placeholder: 'name',
    fallback: { value: undefined },
  }),
  labels: setting<Readonly<Record<string, string>>>({
    schema: labelsSchema,
    description: 'with --export: as for a host with this label, key=value; may be repeated',
    placeholder: 'key=value',
    flag: 'label',
    fallback: { value: {} },
  }),
} satisfies Settings;

type Asked = {
  readonly exportName: string;
  readonly path: string;
  readonly labels: Readonly<Record<string, string>>;
};

export function policyExplainCommand(context: CommandContext): Command {
  const { out } = context;
  const command = makeCommand('explain', {
    description: 'Which policies decide about a path, which do not and why, and what holds for it.',
    examples: [
      'perigee policy explain /mnt/data/train/000.tar',
      'perigee policy explain train/000.tar --origin 10.0.0.1:7420 --export datasets --label pool=h200',
    ],
  }).argument('<path>', 'a path under a mount; with --export, one relative to the root of the export');
  return withOrigin(addSettings(command, explainSettings)).action(
    act(context, async (path: string, flags: Flags) => {
      const { export: exportName, labels } = resolveFlags(explainSettings, flags, context);
      const explanation =
        exportName === undefined
          ? await explainMounted(path, context)
          : await withPolicies({ flags, context }, (calls) =>
              explainFrom(calls, { exportName, path, labels }),
            );
      if (flags.json === true) out.json(explanation);
      else explanationLines(explanation).forEach((line) => out.line(line));
    }),
  );
}

async function explainMounted(path: string, context: CommandContext): Promise<PolicyExplanation> {
  const { mountpoint, inside } = await findMountPath(path, context);
  return (await context.runtime.control(mountpoint)).policyExplain(inside);
}

/** By the origin's document and names; what a cache has is not known. */
async function explainFrom(calls: PolicyCalls, asked: Asked): Promise<PolicyExplanation> {
  const { exportName, labels } = asked;
  const inside = asked.path.replaceAll(/^\/+|\/+$/g, '');
  const { version, text } = await calls.document();
  const found = await calls.find(exportName, inside);
  const isDirectory = found?.kind === 'directory';
  const path = isDirectory && inside !== '' ? `${inside}/` : inside;
  const sizeBytes = isDirectory ? undefined : found?.sizeBytes;
  const host = { name: os.hostname(), labels };
  const engine = compilePolicies(parsePolicyDocument(text).policies);
  const { decision, policies } = engine.explain({ exportName, path, sizeBytes, host });
  return {
    ...{ exportName, path, sizeBytes, labels, policies },
    kind: found?.kind ?? 'absent',
    documentVersion: version.version,
    host: host.name,
    settings: SETTING_NAMES.map((name) => {
      const { value, policy, reason } = decision.rulings[name];
      return { name, value: value ?? null, policy, reason };
    }),
  };
}

function explanationLines(explanation: PolicyExplanation): string[] {
  const { exportName, path, kind, sizeBytes, documentVersion, host, labels, cachedBytes } = explanation;
  const size = sizeBytes === undefined ? '' : ` of ${bytesText(sizeBytes)}`;
  const cached = cachedBytes === undefined ? '' : `, ${bytesText(cachedBytes)} of it cached`;
  const what = kind === 'absent' ? 'nothing is there' : `${kind}${size}${cached}`;
  const labelled = Object.entries(labels).map(([name, value]) => ` ${name}=${value}`);
  const lines = [
    `${nameText(`${exportName}/${path}`)}: ${what}`,
    `policies of version ${documentVersion}, for ${nameText(host + labelled.join(''))}`,
    '',
    ...tableText([
      ['SETTING', 'VALUE', 'REASON', 'POLICY'],
      ...explanation.settings.map((one) => [one.name, valueText(one), one.reason, one.policy ?? '-']),
    ]),
  ];
  if (explanation.policies.length === 0) return lines;
  const judged = explanation.policies.map(({ name, outcome }) => [outcome, name]);
  return [...lines, '', ...tableText([['OUTCOME', 'POLICY'], ...judged])];
}

function valueText({ name, value }: PolicyExplanation['settings'][number]): string {
  if (value === null) return name === 'cache.wholeOnOpen' ? 'as mounted' : '-';
  if (typeof value === 'object') return value.join(',') || '-';
  if (typeof value !== 'number') return nameText(String(value));
  if (name === 'cache.wholeOnOpen') return bytesText(value);
  if (name === 'prefetch.bandwidth') return `${bytesText(value)}/s`;
  return name === 'cache.ttl' ? ms(value) : String(value);
}
