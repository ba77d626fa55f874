/**
 * The order of changes: which may begin, and which must wait for an earlier one.
 *
 * Two changes conflict if they have a name in common that not both of them share, or if one moves a directory that the
 * other lies in. Each waits for the earlier ones that it conflicts with, and for no later one, so there is no deadlock
 * and nobody is passed over.
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
  /** Other changes that share the name may go on at the same time: the times of a directory, moved by its entries. */
  readonly isShared?: boolean;
}

export interface OrderedChange {
  readonly id: ChangeId;
  names: readonly ChangedLeasedName[];
  /** Places of the directories that it moves. */
  moved: readonly Ancestors[];
}

interface Entry<C extends OrderedChange> {
  readonly change: C;
  /** Its names, and whether it shares them. */
  readonly keys: ReadonlyMap<string, boolean>;
  /** Earlier changes that it still waits for. */
  readonly blockers: Set<ChangeId>;
  readonly dependents: Set<ChangeId>;
  /** Given up while it waited: it keeps its place in the order until its turn, and then has no more to do. */
  isGivenUp: boolean;
}

/** The last changes that wanted a name. */
interface LastOf {
  alone: ChangeId | undefined;
  /** Later than that one. */
  readonly sharing: Set<ChangeId>;
}

export class ChangeQueue<C extends OrderedChange> {
  readonly #entries = new Map<ChangeId, Entry<C>>();
  readonly #last = new Map<string, LastOf>();
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
    const keys = keysOf(change);
    const entry: Entry<C> = { change, keys, blockers: new Set(), dependents: new Set(), isGivenUp: false };
    for (const [key, isShared] of keys) this.#want(entry, key, isShared);
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
    for (const key of entry.keys.keys()) this.#leave(id, key);
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
      change.names = change.names.map((one) => ({ ...one, ancestors: rebase(one.ancestors, moved) }));
      change.moved = change.moved.map((ancestors) => rebase(ancestors, moved));
    }
  }

  #want(entry: Entry<C>, key: string, isShared: boolean): void {
    const { id } = entry.change;
    const last = this.#last.get(key) ?? { alone: undefined, sharing: new Set() };
    this.#last.set(key, last);
    this.#wait(entry, last.alone);
    if (isShared) {
      last.sharing.add(id);
      return;
    }
    for (const sharing of last.sharing) this.#wait(entry, sharing);
    last.sharing.clear();
    last.alone = id;
  }

  #leave(id: ChangeId, key: string): void {
    const last = this.#last.get(key);
    if (last === undefined) return;
    if (last.alone === id) last.alone = undefined;
    last.sharing.delete(id);
    if (last.alone === undefined && last.sharing.size === 0) this.#last.delete(key);
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

/** A name that a change wants twice, it has alone if it wants it alone once. */
function keysOf({ names }: OrderedChange): Map<string, boolean> {
  const keys = new Map<string, boolean>();
  for (const { name, isShared = false } of names) {
    const key = keyOf(name);
    keys.set(key, isShared && keys.get(key) !== false);
  }
  return keys;
}

/** Some name or moved directory of `change` lies at or below a directory that `mover` moves. */
function liesInMoved(change: OrderedChange, mover: OrderedChange): boolean {
  return mover.moved.some(([directory]) => {
    const isIn = (ancestors: Ancestors): boolean => ancestors.includes(directory as InodeNumber);
    return change.names.some(({ ancestors }) => isIn(ancestors)) || change.moved.some(isIn);
  });
}
