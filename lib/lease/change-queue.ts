/**
 * The order of changes: which may begin, and which must wait for an earlier one.
 *
 * Two changes conflict if they share a name, or if one moves a directory that the other lies in. Each waits for the
 * earlier ones that it conflicts with, and for no later one, so there is no deadlock and nobody is passed over.
 */
import type { InodeNumber } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import { type Ancestors, rebase } from './ancestors.ts';
import type { LeasedName } from './lease.ts';

export type ChangeId = number;

export interface ChangedLeasedName {
  readonly name: LeasedName;
  /** Of its directory. */
  readonly ancestors: Ancestors;
}

export interface OrderedChange {
  readonly id: ChangeId;
  names: readonly ChangedLeasedName[];
  /** Places of the directories that it moves. */
  moved: readonly Ancestors[];
}

interface Entry<C extends OrderedChange> {
  readonly change: C;
  readonly keys: ReadonlySet<string>;
  /** Earlier changes that it still waits for. */
  readonly blockers: Set<ChangeId>;
  readonly dependents: Set<ChangeId>;
  /** Given up while it waited: it keeps its place in the order until its turn, and then has no more to do. */
  isGivenUp: boolean;
}

export class ChangeQueue<C extends OrderedChange> {
  readonly #entries = new Map<ChangeId, Entry<C>>();
  /** The last change that wanted a name. */
  readonly #last = new Map<string, ChangeId>();
  readonly #movers = new Set<Entry<C>>();

  get size(): number {
    return this.#entries.size;
  }

  get(id: ChangeId): C | undefined {
    return this.#entries.get(id)?.change;
  }

  /** @returns whether it may begin at once */
  add(change: C): boolean {
    invariant(!this.#entries.has(change.id), 'a change is wanted once');
    const keys = new Set(change.names.map(({ name }) => keyOf(name)));
    const entry: Entry<C> = { change, keys, blockers: new Set(), dependents: new Set(), isGivenUp: false };
    for (const key of keys) {
      this.#wait(entry, this.#last.get(key));
      this.#last.set(key, change.id);
    }
    for (const mover of this.#movers) {
      if (liesInMoved(change, mover.change)) this.#wait(entry, mover.change.id);
    }
    if (change.moved.length > 0) {
      for (const [id, earlier] of this.#entries)
        if (liesInMoved(earlier.change, change)) this.#wait(entry, id);
      this.#movers.add(entry);
    }
    this.#entries.set(change.id, entry);
    return entry.blockers.size === 0;
  }

  /** @returns changes that may begin now, in their order */
  finish(id: ChangeId): C[] {
    const entry = this.#entries.get(id);
    invariant(entry !== undefined, 'a change finishes once');
    if (entry.blockers.size > 0) {
      entry.isGivenUp = true;
      return [];
    }
    this.#entries.delete(id);
    this.#movers.delete(entry);
    for (const key of entry.keys) if (this.#last.get(key) === id) this.#last.delete(key);
    const ready: C[] = [];
    for (const dependent of entry.dependents) {
      const next = this.#entries.get(dependent);
      invariant(next !== undefined, 'a change that waits is in the queue');
      next.blockers.delete(id);
      if (next.blockers.size > 0) continue;
      if (next.isGivenUp) ready.push(...this.finish(dependent));
      else ready.push(next.change);
    }
    return ready;
  }

  /** A directory has got another place: changes that waited for it lie elsewhere now. */
  rebase(moved: Ancestors): void {
    for (const { change } of this.#entries.values()) {
      change.names = change.names.map(({ name, ancestors }) => ({
        name,
        ancestors: rebase(ancestors, moved),
      }));
      change.moved = change.moved.map((ancestors) => rebase(ancestors, moved));
    }
  }

  #wait(entry: Entry<C>, id: ChangeId | undefined): void {
    if (id === undefined) return;
    entry.blockers.add(id);
    this.#entries.get(id)?.dependents.add(entry.change.id);
  }
}

export function keyOf({ directory, name }: Pick<LeasedName, 'directory' | 'name'>): string {
  return `${directory}/${name}`;
}

/** Some name or moved directory of `change` lies at or below a directory that `mover` moves. */
function liesInMoved(change: OrderedChange, mover: OrderedChange): boolean {
  return mover.moved.some(([directory]) => {
    const isIn = (ancestors: Ancestors): boolean => ancestors.includes(directory as InodeNumber);
    return change.names.some(({ ancestors }) => isIn(ancestors)) || change.moved.some(isIn);
  });
}
