/**
 * Where the bytes of a writer go whose file another host has taken over: a file beside it, whose name says whose they
 * are and since when. If the directory is gone too, the nearest one above it that is left.
 */
import { type InodeNumber, ROOT_INODE } from '../../lib/base/brand.ts';
import { NAME_BYTES_MAX } from '../../lib/base/limits.ts';
import type { CreatedFile, NewFile } from '../../lib/namespace/changes.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { CONFLICT_NAMES_MAX } from './limits.ts';
import type { DirectoryFinder, Publisher } from './publisher.ts';

export interface Conflict {
  readonly path: string;
  readonly created: CreatedFile;
}

export interface ConflictOptions {
  readonly publisher: Publisher;
  readonly names: DirectoryFinder;
  readonly host: string;
  readonly wallMs: number;
  readonly file: NewFile;
  readonly signal: AbortSignal;
}

/** @throws NamespaceError */
export async function makeConflict(path: string, options: ConflictOptions): Promise<Conflict> {
  const { publisher, file, signal, host, wallMs } = options;
  const { directory, parent } = await directoryOf(path, options);
  const name = path.slice(path.lastIndexOf('/') + 1);
  for (let number = 1; ; number++) {
    const own = conflictName(name, { host, wallMs, number });
    try {
      const created = await publisher.createFile({ parent, name: own }, file, { signal });
      return { path: directory === '' ? own : `${directory}/${own}`, created };
    } catch (error) {
      const isTaken = error instanceof NamespaceError && error.code === 'exists';
      if (!isTaken || number === CONFLICT_NAMES_MAX) throw error;
    }
  }
}

/** `<name>.conflict-<host>-<yyyymmddThhmmss>`; a name that gets too long loses characters of its own. */
export function conflictName(
  name: string,
  { host, wallMs, number }: { readonly host: string; readonly wallMs: number; readonly number: number },
): string {
  // eslint-disable-next-line no-restricted-globals -- only to be written as a text; the time is the Clock's
  const time = new Date(wallMs).toISOString().slice(0, 19).replace(/[-:]/g, '');
  const suffix = `.conflict-${host.replaceAll('/', '_')}-${time}${number === 1 ? '' : `-${number}`}`;
  const room = NAME_BYTES_MAX - Buffer.byteLength(suffix);
  let kept = name;
  while (Buffer.byteLength(kept) > room) kept = Array.from(kept).slice(0, -1).join('');
  return kept + suffix;
}

async function directoryOf(
  path: string,
  { names, signal }: ConflictOptions,
): Promise<{ readonly directory: string; readonly parent: InodeNumber }> {
  let parent = ROOT_INODE;
  const walked: string[] = [];
  for (const name of path.split('/').slice(0, -1)) {
    const found = await names.lookup(parent, name, { signal });
    if (found?.kind !== 'directory') break;
    parent = found.inode;
    walked.push(name);
  }
  return { directory: walked.join('/'), parent };
}
