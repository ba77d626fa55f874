/** Paths in an export, as people and tools name them: relative to the root, names between slashes. */
import { ROOT_INODE } from '../../base/brand.ts';
import type { ExportTree } from './export-tree.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import { nameProblem } from './key-names.ts';
import { OriginError } from '../origin.ts';

const ROOT = Number(ROOT_INODE);
/** As PATH_MAX; no key is longer anyway. */
const PATH_BYTES_MAX = 4_096;

/** The names of a path; none for the root. @throws OriginError `invalid` */
export function parsePath(path: string): string[] {
  const refuse = (why: string): never => {
    throw new OriginError('invalid', `path ${JSON.stringify(path.slice(0, 300))} ${why}`, {
      hint: 'write names between single slashes, such as train/000.tar',
    });
  };
  if (path === '') return [];
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) refuse(`is longer than ${PATH_BYTES_MAX} bytes`);
  const names = path.replace(/\/$/, '').split('/');
  for (const name of names) {
    const problem = nameProblem(name);
    if (problem !== undefined) refuse(problem);
  }
  return names;
}

/** The path of a thing itself, not of the root. @throws OriginError `invalid` */
export function parseChildPath(path: string): { readonly parents: readonly string[]; readonly name: string } {
  const parents = parsePath(path);
  const name = parents.pop();
  if (name === undefined) throw new OriginError('invalid', 'the root of an export cannot be changed itself');
  return { parents, name };
}

export interface Walked {
  /** The deepest directory that there is. */
  readonly directory: number;
  /** Names that are missing below it; the first one was looked for. */
  readonly missing: readonly string[];
}

/** Follows names of directories as far as they go. @throws OriginError `not-directory`, and what lookups throw */
export async function walkDirectories(
  tree: ExportTree,
  names: readonly string[],
  from: number = ROOT,
): Promise<Walked> {
  let directory = from;
  for (const [at, name] of names.entries()) {
    const child = await tree.lookup(directory, name);
    if (child === undefined) return { directory, missing: names.slice(at) };
    if (child.kind !== 'directory') {
      throw new OriginError(
        'not-directory',
        `${JSON.stringify(names.slice(0, at + 1).join('/'))} is not a directory`,
      );
    }
    directory = child.inode;
  }
  return { directory, missing: [] };
}

/** A name in a directory, as satellites say it. */
export interface Place {
  readonly directory: number;
  readonly name: string;
}

export interface Located extends Place {
  readonly inode: IndexedInode | undefined;
}

/** A name in a directory that exists. @throws OriginError `not-found`, `not-directory` */
export async function locate(tree: ExportTree, path: string): Promise<Located> {
  const { parents, name } = parseChildPath(path);
  const { directory, missing } = await walkDirectories(tree, parents);
  if (missing.length > 0) throw noSuchPath(parents.join('/'));
  return { directory, name, inode: await tree.lookup(directory, name) };
}

/** @throws OriginError `not-found`, `not-directory`, `invalid` */
export async function locateAt(tree: ExportTree, { directory, name }: Place): Promise<Located> {
  const problem = nameProblem(name);
  if (problem !== undefined) {
    throw new OriginError(
      'invalid',
      `${JSON.stringify(name.slice(0, 300))} ${problem}, so no key can have it`,
    );
  }
  return { directory, name, inode: await tree.lookup(directory, name) };
}

export function noSuchPath(path: string): OriginError {
  return new OriginError('not-found', `there is no ${JSON.stringify(path.slice(0, 300))}`);
}

/** @throws OriginError `is-directory` */
export function refuseDirectory(name: string, inode: IndexedInode | undefined): void {
  if (inode?.kind !== 'directory') return;
  throw new OriginError('is-directory', `${JSON.stringify(name)} is a directory`, {
    hint: 'name the file in it',
  });
}
