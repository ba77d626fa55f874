/** `perigee policy apply`, `delete` and `rollback`: each makes a new version, which holds everywhere at once. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { countText, nameText } from './format.ts';
import { type Flags } from './options.ts';
import { withOrigin } from './origin-option.ts';
import { type PolicyChangeInfo } from './policy-calls.ts';
import { readDocumentFile, warningText, withPolicies } from './policy-origin.ts';

const FILE_OPTION = ['-f, --file <file>', 'the document, YAML or JSON; - for standard input'] as const;

export function policyApplyCommand(context: CommandContext): Command {
  const command = makeCommand('apply', {
    description: 'Makes a document the one that holds, in place of the one before.',
    examples: [
      'perigee policy apply -f policies.yaml',
      'perigee policy apply -f policies.yaml --origin 10.0.0.1:7420 --json',
    ],
  }).requiredOption(...FILE_OPTION);
  return withOrigin(command).action(
    act(context, async (flags: Flags & { readonly file: string }) => {
      const { file, text } = await readDocumentFile(flags.file, context);
      const change = await withPolicies({ flags, context }, (calls) => calls.apply(text, { dryRun: false }));
      tell(change, { flags, context, file });
    }),
  );
}

export function policyDeleteCommand(context: CommandContext): Command {
  const command = makeCommand('delete', {
    description: 'Takes one policy out of the document that holds.',
    examples: ['perigee policy delete imagenet --origin 10.0.0.1:7420'],
  }).argument('<name>', 'name of the policy');
  return withOrigin(command).action(
    act(context, async (name: string, flags: Flags) => {
      tell(await withPolicies({ flags, context }, (calls) => calls.delete(name)), { flags, context });
    }),
  );
}

export function policyRollbackCommand(context: CommandContext): Command {
  const command = makeCommand('rollback', {
    description: 'Makes an earlier version hold again, as a new version; 0 is no policies at all.',
    examples: ['perigee policy rollback 3 --origin 10.0.0.1:7420'],
  }).argument('<version>', 'a number of perigee policy history');
  return withOrigin(command).action(
    act(context, async (given: string, flags: Flags) => {
      if (!/^\d{1,15}$/.test(given)) {
        throw new UsageError(`${JSON.stringify(given)} is not a version`, {
          hint: 'perigee policy history shows the versions',
        });
      }
      const change = await withPolicies({ flags, context }, (calls) => calls.rollback(Number(given)));
      tell(change, { flags, context });
    }),
  );
}

function tell(
  change: PolicyChangeInfo,
  {
    flags,
    context,
    file,
  }: { readonly flags: Flags; readonly context: CommandContext; readonly file?: string },
): void {
  const { out } = context;
  const { version, unchanged, warnings } = change;
  for (const warning of warnings) out.note(warningText(warning, file));
  if (flags.json === true) return out.json(change);
  const what = `version ${version.version} of the policies ${unchanged ? 'holds already' : 'holds'}`;
  const subject = version.action === 'delete' && !unchanged ? `, without ${nameText(version.subject)}` : '';
  out.line(`${what}: ${countText(version.policies, 'policy').replace(/policys$/, 'policies')}${subject}`);
}
