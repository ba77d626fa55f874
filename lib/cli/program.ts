/**
 * The command line `perigee`.
 *
 * Guarantees: every way to end is an exit code (0 fine, 1 failed, 2 wrong usage, 3 partly done) and never an
 * exception; whatever fails is told on standard error as `perigee: what failed: why` with a `hint:` line.
 */
import { Command, CommanderError } from 'commander';
import { cacheCommand } from './cache.ts';
import { type CommandContext, type Outcome } from './command.ts';
import { doctorCommand } from './doctor.ts';
import { drainCommand } from './drain.ts';
import { type CommandEnvironment, EXIT, type ExitCode } from './environment.ts';
import { mkdirCommand } from './mkdir.ts';
import { flushCommand } from './flush.ts';
import { leaseCommand } from './lease.ts';
import { mountCommand } from './mount.ts';
import { mvCommand } from './mv.ts';
import { originCommand } from './origin.ts';
import { policyCommand } from './policy.ts';
import { prefetchCommand } from './prefetch.ts';
import { putCommand } from './put.ts';
import { recordCommand } from './record.ts';
import { reportError } from './report.ts';
import { rmCommand } from './rm.ts';
import { sessionCommand } from './session.ts';
import { statusCommand } from './status.ts';
import { unmountCommand } from './unmount.ts';
import { upCommand } from './up.ts';

const HELP_COLUMNS = 100;

export function buildProgram(environment: CommandEnvironment, outcome: Outcome): Command {
  const { out, runtime } = environment;
  const context: CommandContext = { ...environment, outcome };
  const program = new Command('perigee')
    .description(
      'Puts a global object namespace under a path on every GPU host, with the NVMe of the host as its nearest tier.',
    )
    .version(runtime.version, '--version', 'show the version')
    .helpOption('--help', 'show this text')
    .helpCommand('help [command]', 'show the text of a command')
    // An option belongs to the command before it, also where a command has both options and subcommands.
    .enablePositionalOptions()
    .addHelpText(
      'after',
      `
Every option can also be given as PERIGEE_* in the environment; those of origin and mount in a YAML file
(--config, or ${environment.configFile}). A flag wins over the environment, the environment over the file.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 partly done.

Examples:
  $ perigee up --sample
  $ perigee mount 10.0.0.1:7420/datasets /mnt/data --cache /nvme/perigee --cache-size 1TiB`,
    );
  for (const make of [
    upCommand,
    originCommand,
    mountCommand,
    unmountCommand,
    statusCommand,
    cacheCommand,
    prefetchCommand,
    recordCommand,
    flushCommand,
    drainCommand,
    sessionCommand,
    leaseCommand,
    policyCommand,
    putCommand,
    rmCommand,
    mvCommand,
    mkdirCommand,
    doctorCommand,
  ]) {
    program.addCommand(make(context));
  }
  harden(program, { out, outcome, path: [] });
  return program;
}

/** commander neither ends the process nor prints by itself; each command notes that it is the one that runs. */
function harden(
  command: Command,
  { out, outcome, path }: Pick<CommandContext, 'out' | 'outcome'> & { readonly path: readonly string[] },
): void {
  command
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: (text) => out.line(text.trimEnd()),
      writeErr: (text) => (outcome.usage += text),
      getOutHelpWidth: () => HELP_COLUMNS,
    });
  command.hook('preSubcommand', (_, sub) => {
    outcome.command = [...path, sub.name()].join(' ');
  });
  for (const sub of command.commands) harden(sub, { out, outcome, path: [...path, sub.name()] });
}

/** @param words of the command line, without node and script. */
export async function runCli(words: readonly string[], environment: CommandEnvironment): Promise<ExitCode> {
  const outcome: Outcome = { exitCode: EXIT.fine, command: '', usage: '' };
  const { out } = environment;
  try {
    await buildProgram(environment, outcome).parseAsync([...words], { from: 'user' });
    return outcome.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.fine;
    // Words are missing, and what commander wants to show is the help text.
    if (error instanceof CommanderError && error.code === 'commander.help') {
      out.note(outcome.usage.trimEnd());
      return EXIT.usage;
    }
    return reportError(error, { what: outcome.command, out });
  }
}
