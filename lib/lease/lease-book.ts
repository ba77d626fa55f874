/**
 * Who holds which leases: by session and by directory.
 *
 * A session holds a directory if it has a lease on it, or a subtree lease on one above it with no excluded directory
 * from this one up to below that lease. Leases know where they lie, and moves keep that right.
 */
import type { InodeNumber } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import { type Ancestors, rebase } from './ancestors.ts';
import type { LeaseReference } from './lease.ts';

interface HeldLease {
  readonly subtree: boolean;
  readonly sinceMs: number;
  readonly ancestors: Ancestors;
}

/** What one session holds. */
export class Holdings {
  readonly leases = new Map<InodeNumber, HeldLease>();
  /** Not covered, with all below, by a subtree lease from above. */
  readonly excluded = new Set<InodeNumber>();
  /** How many of the leases are subtree leases. */
  subtrees = 0;

  get size(): number {
    return this.leases.size + this.excluded.size;
  }

  /** The nearest lease that covers a directory. */
  covering(ancestors: Ancestors): LeaseReference | undefined {
    for (const [at, directory] of ancestors.entries()) {
      const lease = this.leases.get(directory);
      if (lease !== undefined && (lease.subtree || at === 0)) return { directory, subtree: lease.subtree };
      if (this.excluded.has(directory)) return undefined;
    }
    return undefined;
  }
}

export class LeaseBook<Holder extends { readonly holdings: Holdings }> {
  readonly #byDirectory = new Map<InodeNumber, Set<Holder>>();
  /** By each directory above a leased one: what is leased below it, so that nobody has to look through all leases. */
  readonly #below = new Map<InodeNumber, Map<Holder, Set<InodeNumber>>>();
  /** Of all sessions. */
  leases = 0;

  /** False: nobody can hold the directory. The short way of changes that concern nobody. */
  isHeld(ancestors: Ancestors): boolean {
    return ancestors.some((directory) => this.#byDirectory.has(directory));
  }

  holders(ancestors: Ancestors): Set<Holder> {
    const found = new Set<Holder>();
    for (const [at, directory] of ancestors.entries()) {
      const holders = this.#byDirectory.get(directory);
      if (holders === undefined) continue;
      const upToHere = ancestors.slice(0, at + 1);
      for (const holder of holders) if (holder.holdings.covering(upToHere) !== undefined) found.add(holder);
    }
    return found;
  }

  /** Leases at and below a directory. */
  below(directory: InodeNumber): [Holder, InodeNumber][] {
    const found: [Holder, InodeNumber][] = [];
    for (const holder of this.#byDirectory.get(directory) ?? []) found.push([holder, directory]);
    for (const [holder, held] of this.#below.get(directory) ?? []) {
      for (const one of held) found.push([holder, one]);
    }
    return found;
  }

  /**
   * Sees to it that a directory is covered: whole from `quiet` down if something above it (or it) is quiet, else alone.
   *
   * @param options.sizeMax of the holder's leases and exclusions; undefined is returned where it stands in the way
   */
  cover(
    holder: Holder,
    ancestors: Ancestors,
    options: { readonly quiet: InodeNumber | undefined; readonly sizeMax: number; readonly nowMs: number },
  ): LeaseReference | undefined {
    const { quiet, sizeMax, nowMs } = options;
    const { holdings } = holder;
    const covering = holdings.covering(ancestors);
    if (covering !== undefined && (covering.subtree || quiet === undefined)) return covering;
    const directory = quiet ?? ancestors[0];
    invariant(directory !== undefined, 'a directory is the first of its ancestors');
    const lease = { directory, subtree: quiet !== undefined };
    if (holdings.size >= sizeMax && !holdings.leases.has(directory)) return covering;
    const at = ancestors.indexOf(directory);
    // The holder knows nothing there, so it may be covered again.
    if (lease.subtree) for (const below of ancestors.slice(0, at)) holdings.excluded.delete(below);
    this.add(holder, lease, { ancestors: ancestors.slice(at), nowMs });
    return lease;
  }

  /** A subtree lease takes in the holder's leases at and below its directory, but for those that are excluded from it. */
  add(
    holder: Holder,
    lease: LeaseReference,
    options: { readonly ancestors: Ancestors; readonly nowMs: number },
  ): void {
    const { leases, excluded } = holder.holdings;
    const { directory, subtree } = lease;
    if (subtree) {
      for (const held of [...(this.#below.get(directory)?.get(holder) ?? [])]) {
        const place = leases.get(held)?.ancestors ?? [];
        const isExcluded = place.slice(0, place.indexOf(directory)).some((one) => excluded.has(one));
        if (!isExcluded) this.drop(holder, held);
      }
    }
    this.drop(holder, directory);
    if (subtree) holder.holdings.subtrees += 1;
    this.leases += 1;
    leases.set(directory, { subtree, sinceMs: options.nowMs, ancestors: options.ancestors });
    const holders = this.#byDirectory.get(directory);
    if (holders === undefined) this.#byDirectory.set(directory, new Set([holder]));
    else holders.add(holder);
    for (const above of options.ancestors.slice(1)) {
      const byHolder = this.#below.get(above) ?? new Map<Holder, Set<InodeNumber>>();
      this.#below.set(above, byHolder);
      const held = byHolder.get(holder);
      if (held === undefined) byHolder.set(holder, new Set([directory]));
      else held.add(directory);
    }
  }

  drop(holder: Holder, directory: InodeNumber): void {
    const lease = holder.holdings.leases.get(directory);
    if (lease === undefined) return;
    if (lease.subtree) holder.holdings.subtrees -= 1;
    this.leases -= 1;
    holder.holdings.leases.delete(directory);
    const holders = this.#byDirectory.get(directory);
    if (holders?.delete(holder) && holders.size === 0) this.#byDirectory.delete(directory);
    for (const above of lease.ancestors.slice(1)) {
      const byHolder = this.#below.get(above);
      const held = byHolder?.get(holder);
      if (held?.delete(directory) && held.size === 0) byHolder?.delete(holder);
      if (byHolder?.size === 0) this.#below.delete(above);
    }
  }

  dropAll(holder: Holder): void {
    for (const directory of [...holder.holdings.leases.keys()]) this.drop(holder, directory);
    holder.holdings.excluded.clear();
  }

  /** A directory has got another place, and with it all that is leased at and below it. */
  rebase(moved: Ancestors): void {
    const [directory] = moved;
    if (directory === undefined) return;
    for (const [holder, held] of this.below(directory)) {
      const lease = holder.holdings.leases.get(held);
      if (lease === undefined) continue;
      const { subtree, sinceMs } = lease;
      const ancestors = rebase(lease.ancestors, moved);
      this.drop(holder, held);
      this.add(holder, { directory: held, subtree }, { ancestors, nowMs: sinceMs });
    }
  }
}
