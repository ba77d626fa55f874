/** `HOST:PORT/EXPORT/PATH`, as the commands that change an export through its origin take it. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { clientCredentialFiles, clientSettings } from '../config/client-settings.ts';
import { parseSource } from '../config/names.ts';
import { type CommandContext } from './command.ts';
import { addConfigOption, addSettings, type Flags, resolveWithClient } from './options.ts';
import { type ExportChanges } from './runtime.ts';

export const EXPORT_PATH_MEANING = 'host:port/export/path';

export interface ExportPath {
  readonly origin: string;
  readonly exportName: string;
  /** Without slashes at its ends; empty for the root. */
  readonly path: string;
  /** It was written with a slash at its end: the directory is meant. */
  readonly isDirectory: boolean;
}

/** @throws UsageError */
export function parseExportPath(text: string): ExportPath {
  const [host = '', exportName = '', ...names] = text.split('/');
  const source = parseSource(exportName === '' ? host : `${host}/${exportName}`);
  const path = names.join('/');
  return { ...source, path: path.replace(/\/$/, ''), isDirectory: path === '' || path.endsWith('/') };
}

/** For paths that cannot be the root. @throws UsageError */
export function parseChildPath(text: string): ExportPath {
  const parsed = parseExportPath(text);
  if (parsed.path !== '') return parsed;
  throw new UsageError(`${JSON.stringify(text)} names no path in the export`, {
    hint: 'write ORIGIN/EXPORT/PATH, such as 10.0.0.1:7420/datasets/train/000.tar',
  });
}

export function withCredentials(command: Command): Command {
  return addConfigOption(addSettings(command, clientSettings)).option('--json', 'print JSON');
}

/** Connects for the time of `run`. */
export async function withChanges<T>(
  { origin, exportName }: ExportPath,
  { flags, context }: { readonly flags: Flags; readonly context: CommandContext },
  run: (changes: ExportChanges) => Promise<T>,
): Promise<T> {
  const { runtime, workingDirectory } = context;
  const values = resolveWithClient(clientSettings, flags, context);
  const credentials = clientCredentialFiles(values, workingDirectory);
  const changes = await runtime.changes({ origin, exportName, credentials });
  try {
    return await run(changes);
  } finally {
    await changes.close();
  }
}
