/** Finds files by asking for names: one path, what lies below a directory, what follows a name in the listing. */
import { type InodeNumber, ROOT_INODE } from '../base/brand.ts';
import { LIST_PAGE_ENTRIES } from '../base/limits.ts';
import type { DirectoryEntry, InodeAttributes, Namespace } from '../namespace/namespace.ts';
import type { WantedFile } from './prefetch.ts';

/** Directories moved under each other between pages can look like a ring. */
const DEPTH_MAX = 256;

export type Names = Pick<Namespace, 'knownName' | 'lookup' | 'list' | 'attributes' | 'isListingHeld'>;

export interface Place {
  readonly inode: InodeNumber;
  /** In the export; of the root empty. */
  readonly path: string;
}

interface Asking {
  readonly names: Names;
  readonly signal: AbortSignal;
}

/** Undefined: nothing is there. */
export async function find(path: string, { names, signal }: Asking): Promise<InodeAttributes | undefined> {
  let at: InodeAttributes | undefined;
  for (const name of path.split('/').filter(Boolean)) {
    if (at !== undefined && at.kind !== 'directory') return undefined;
    const parent: InodeNumber = at?.inode ?? ROOT_INODE;
    const known = names.knownName(parent, name);
    at = known === undefined ? await names.lookup(parent, name, { signal }) : known.attributes;
    if (at === undefined) return undefined;
  }
  return at ?? names.attributes(ROOT_INODE, { signal });
}

/** Entries of a directory in the order of its listing, behind `after`. */
export async function* entries(
  directory: InodeNumber,
  { names, signal, after = '' }: Asking & { readonly after?: string },
): AsyncGenerator<DirectoryEntry> {
  for (let from: string | undefined = after; from !== undefined;) {
    const page = await names.list(
      directory,
      { ...(from === '' ? {} : { after: from }), entriesMax: LIST_PAGE_ENTRIES },
      { signal },
    );
    yield* page.entries;
    from = page.next;
  }
}

export interface FoundFile extends WantedFile {
  /** 1: directly in the directory where the walk began. */
  readonly depth: number;
}

/** All files at and below a directory, each directory before its subdirectories. */
export async function* filesBelow(
  top: Place,
  asking: Asking & {
    readonly depthMax?: number;
    /** Whether a directory, its path with a slash at its end, may have what is looked for. */
    readonly enters?: (path: string) => boolean;
    readonly onDirectory?: (directory: Place) => void;
  },
): AsyncGenerator<FoundFile> {
  const { depthMax = DEPTH_MAX, enters = () => true, onDirectory } = asking;
  const directories: (Place & { readonly depth: number })[] = [{ ...top, depth: 1 }];
  for (let at = directories.pop(); at !== undefined; at = directories.pop()) {
    onDirectory?.(at);
    const below: typeof directories = [];
    for await (const { name, attributes } of entries(at.inode, asking)) {
      const path = at.path === '' ? name : `${at.path}/${name}`;
      const { inode, kind, source } = attributes;
      if (kind === 'directory' && at.depth < Math.min(depthMax, DEPTH_MAX) && enters(`${path}/`)) {
        below.push({ inode, path, depth: at.depth + 1 });
      } else if (source !== undefined) {
        yield { inode, path, source, depth: at.depth };
      }
    }
    directories.push(...below.reverse());
  }
}

/** Files whose path begins with the prefix. */
export async function* filesOfPrefix(prefix: string, asking: Asking): AsyncGenerator<FoundFile> {
  const directory = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')));
  const attributes = await find(directory, asking);
  if (attributes?.kind !== 'directory') return;
  const enters = (path: string): boolean => path.startsWith(prefix) || prefix.startsWith(path);
  for await (const file of filesBelow({ inode: attributes.inode, path: directory }, { ...asking, enters })) {
    if (file.path.startsWith(prefix)) yield file;
  }
}

export function wantedFile(path: string, { inode, source }: InodeAttributes): WantedFile | undefined {
  return source === undefined ? undefined : { inode, path, source };
}
