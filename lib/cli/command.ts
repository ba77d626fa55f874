/** What the commands share: how one is made, how it ends, how its errors are told. */
import { Command } from 'commander';
import { type CommandEnvironment, EXIT, type ExitCode } from './environment.ts';

/** Where the exit code of the command that ran is kept. */
export interface Outcome {
  exitCode: ExitCode;
  /** The words of the command that ran, such as `cache pin`. */
  command: string;
  /** What commander had to say about wrong usage. */
  usage: string;
}

export interface CommandContext extends CommandEnvironment {
  readonly outcome: Outcome;
}

/** An action whose result is the exit code; none is `fine`. */
export type Action<Words extends readonly unknown[]> = (...words: Words) => Promise<ExitCode | void>;

/** Makes a command that throws instead of ending the process, with examples under its help. */
export function makeCommand(
  name: string,
  { description, examples }: { readonly description: string; readonly examples: readonly string[] },
): Command {
  return new Command(name)
    .description(description)
    .helpOption('--help', 'show this text')
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
}

/** Runs the action and keeps its exit code. */
export function act<Words extends readonly unknown[]>(
  { outcome }: CommandContext,
  action: Action<Words>,
): (...words: Words) => Promise<void> {
  return async (...words) => {
    outcome.exitCode = (await action(...words)) ?? EXIT.fine;
  };
}
