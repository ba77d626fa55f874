/** `perigee policy`: the document of policies that the origin keeps and every satellite follows. */
import { type Command } from 'commander';
import { type CommandContext, makeCommand } from './command.ts';
import { policyApplyCommand, policyDeleteCommand, policyRollbackCommand } from './policy-change.ts';
import { policyExplainCommand } from './policy-explain.ts';
import { policyPlanCommand } from './policy-plan.ts';
import { policyHistoryCommand, policyListCommand, policyShowCommand } from './policy-show.ts';

export function policyCommand(context: CommandContext): Command {
  const command = makeCommand('policy', {
    description:
      'Shows and changes the policies that every satellite follows: one document, kept by the origin.',
    examples: [
      'perigee policy plan -f policies.yaml --origin 10.0.0.1:7420',
      'perigee policy apply -f policies.yaml --origin 10.0.0.1:7420',
      'perigee policy explain /mnt/data/train/000.tar',
    ],
  });
  for (const make of [
    policyApplyCommand,
    policyPlanCommand,
    policyListCommand,
    policyShowCommand,
    policyDeleteCommand,
    policyHistoryCommand,
    policyRollbackCommand,
    policyExplainCommand,
  ]) {
    command.addCommand(make(context));
  }
  return command;
}
