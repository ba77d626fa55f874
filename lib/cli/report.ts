/** Errors as people see them: `perigee: what failed: why`, a `hint:` line, and the exit code. */
import { CommanderError } from 'commander';
import { describeError, hintOf, UsageError } from '../base/errors.ts';
import { EXIT, type ExitCode } from './environment.ts';
import { type Output } from './output.ts';

export function reportError(
  error: unknown,
  { what, out }: { readonly what: string; readonly out: Output },
): ExitCode {
  const shown = error instanceof CommanderError ? usageOf(error, what) : error;
  out.note(`perigee: ${what === '' ? '' : `${what}: `}${describeError(shown)}`);
  const hint = hintOf(shown);
  if (hint !== undefined) out.note(`hint: ${hint}`);
  return shown instanceof UsageError ? EXIT.usage : EXIT.failed;
}

/** commander says `error: unknown option '--cach'\n(Did you mean --cache?)`. */
function usageOf(error: CommanderError, what: string): UsageError {
  const [first = '', suggestion] = error.message.split('\n');
  const meant = /^\((.*)\)$/.exec(suggestion ?? '')?.[1];
  return new UsageError(first.replace(/^error: /, ''), {
    hint: meant?.replace(/^Did/, 'did') ?? `perigee${what === '' ? '' : ` ${what}`} --help shows the usage`,
  });
}
