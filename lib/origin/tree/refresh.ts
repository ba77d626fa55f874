/**
 * Compares what the index knows at and below a path with the object store, because a person asks for it: each
 * difference becomes a change like any other. Goes through a tree of any size with the memory of its depth.
 */
import type { ExportTree } from './export-tree.ts';
import { locate, noSuchPath, parsePath } from './export-paths.ts';
import type { Differences } from './facts.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { Revalidation } from './revalidation.ts';
import { ROOT_INODE } from '../../base/brand.ts';

const ROWS_AT_ONCE = 1_000;

export interface RefreshFigures extends Differences {
  readonly directories: number;
  readonly names: number;
}

export class Refresh {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #tree: ExportTree;
  readonly #revalidation: Revalidation;
  readonly #signal: AbortSignal;
  readonly #sum = { directories: 0, names: 0, added: 0, changed: 0, gone: 0 };

  constructor(options: {
    readonly exportId: number;
    readonly index: NamespaceIndex;
    readonly tree: ExportTree;
    readonly revalidation: Revalidation;
    readonly signal: AbortSignal;
  }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#tree = options.tree;
    this.#revalidation = options.revalidation;
    this.#signal = options.signal;
  }

  /** Figures so far, again and again; the last ones are the sum. @throws OriginError */
  async *run(path: string, options: { readonly recursive: boolean }): AsyncGenerator<RefreshFigures> {
    const inode = await this.#itself(path);
    if (inode !== undefined) yield* this.#directory(inode, options.recursive);
    yield { ...this.#sum };
  }

  /** The name of the path in its parent. @returns the directory that it is */
  async #itself(path: string): Promise<number | undefined> {
    if (parsePath(path).length === 0) return Number(ROOT_INODE);
    const before = await locate(this.#tree, path);
    const key = { exportId: this.#exportId, directory: before.directory };
    const parent = await this.#index.directory(key);
    if (parent === undefined) throw noSuchPath(path);
    this.#add({ ...(await this.#tree.facts.review(parent, [{ name: before.name }])), names: 1 });
    const now = await this.#index.child(key, before.name);
    if (before.inode === undefined && now === undefined) throw noSuchPath(path);
    return now?.kind === 'directory' ? now.inode : undefined;
  }

  async *#directory(inode: number, recursive: boolean): AsyncGenerator<RefreshFigures> {
    this.#signal.throwIfAborted();
    const key = { exportId: this.#exportId, directory: inode };
    const directory = await this.#index.directory(key);
    if (directory === undefined) return;
    this.#sum.directories += 1;
    if (directory.state === 'listed') {
      for await (const page of this.#revalidation.compare(inode)) {
        this.#add(page);
        yield { ...this.#sum };
        this.#signal.throwIfAborted();
      }
      this.#revalidation.listed(inode);
    } else {
      // What was told of it so far; the rest nobody knows yet.
      for await (const names of this.#children(inode)) {
        const asked = names.map(({ name }) => ({ name }));
        this.#add({ ...(await this.#tree.facts.review(directory, asked)), names: names.length });
      }
      await this.#tree.complete(inode);
      yield { ...this.#sum };
    }
    if (!recursive) return;
    for await (const children of this.#children(inode)) {
      for (const child of children) if (child.isDirectory) yield* this.#directory(child.inode, true);
    }
  }

  async *#children(directory: number) {
    const key = { exportId: this.#exportId, directory };
    for (let after = '', more = true; more;) {
      const rows = await this.#index.children(key, { after, below: undefined, limit: ROWS_AT_ONCE });
      if (rows.length > 0) {
        yield rows.map(({ name, inode, kind }) => ({ name, inode, isDirectory: kind === 'directory' }));
      }
      after = rows.at(-1)?.name ?? after;
      more = rows.length === ROWS_AT_ONCE;
    }
  }

  #add({ names, added, changed, gone }: Differences & { readonly names: number }): void {
    this.#sum.names += names;
    this.#sum.added += added;
    this.#sum.changed += changed;
    this.#sum.gone += gone;
  }
}
