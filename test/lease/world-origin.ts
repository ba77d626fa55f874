/** An origin of the small model: the lease table over what is true, with lookups and changes that take their time. */
import type { Epoch, InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { LeaseTable } from '../../lib/lease/lease-table.ts';
import type { Ancestors, LeaseEffect, LeaseEvent } from '../../lib/lease/lease-table-events.ts';
import type { Grant, LeasedName, SatelliteMessage } from '../../lib/lease/lease.ts';
import {
  DIRECTORIES,
  keyOf,
  type Link,
  type LinkEnd,
  type OriginEnd,
  type Surroundings,
  TIMING,
  type Value,
} from './world-parts.ts';

const QUIET_MS = 300;

interface WorldChange {
  readonly names: readonly { readonly name: LeasedName; readonly value: Value }[];
  readonly move: { readonly directory: InodeNumber; readonly to: InodeNumber } | undefined;
}

export class WorldOrigin implements OriginEnd {
  readonly #world: Surroundings;
  readonly #restart: () => void;
  readonly #epoch: number;
  readonly #table: LeaseTable<number>;
  readonly #links = new Map<number, { readonly link: Link; readonly satellite: LinkEnd }>();
  readonly changes = new Map<number, WorldChange>();
  /** Lookups of names under change. */
  #waiting: (() => void)[] = [];
  #lastChange = 0;
  #grant: Grant | undefined;
  isDead = false;

  constructor(world: Surroundings, epoch: number, restart: () => void) {
    this.#world = world;
    this.#restart = restart;
    this.#epoch = epoch;
    this.#table = new LeaseTable({ epoch: epoch as Epoch, timing: TIMING, quietMs: QUIET_MS });
    this.#step({ kind: 'started', awaited: [...world.rows.values()] });
  }

  crash(): void {
    const { prng } = this.#world;
    this.#world.note('origin restarts');
    this.isDead = true;
    for (const { link, satellite } of [...this.#links.values()]) satellite.broken(link, prng.next() * 100);
    this.#restart();
  }

  get unfinished(): number {
    return this.#table.changes;
  }

  get sessions(): number {
    return this.#table.sessionCount;
  }

  opened(link: Link, satellite: LinkEnd): void {
    this.#links.set(link.id, { link, satellite });
    this.#step({ kind: 'stream-opened', stream: link.id, tenant: 't', address: 'somewhere' });
  }

  closed(link: Link): void {
    if (this.isDead || !this.#links.delete(link.id)) return;
    this.#step({ kind: 'stream-broken', stream: link.id });
  }

  receive(link: Link, message: SatelliteMessage): void {
    if (this.isDead) return;
    if (message.kind !== 'hello') return this.#step({ kind: 'message', stream: link.id, message });
    const places = new Map(DIRECTORIES.map((directory) => [directory, this.#world.place(directory)]));
    const session = `${this.#epoch}-${this.#world.prng.below(1e9)}` as SessionId;
    this.#step({ kind: 'message', stream: link.id, message, hello: { session, places } });
  }

  /** Calls back with the answer, after a change of the name that is under way. */
  lookup(
    name: LeasedName,
    session: SessionId | undefined,
    answer: (value: Value, grant: Grant | undefined, chain: Ancestors) => void,
  ): void {
    if (this.isDead) return;
    if (this.#table.underChange(name.directory, name.name) !== undefined) {
      this.#waiting.push(() => this.lookup(name, session, answer));
      return;
    }
    const chain = this.#world.place(name.directory);
    this.#grant = undefined;
    if (session !== undefined) this.#step({ kind: 'grant-wanted', session, ancestors: chain });
    const grant = this.#grant;
    // The name is looked up a while after the grant.
    this.#world.after(this.#world.prng.next() * 30, () =>
      answer(this.#world.truth.get(keyOf(name)), grant, chain),
    );
  }

  want(names: readonly LeasedName[], move: WorldChange['move']): void {
    const { prng } = this.#world;
    const change = ++this.#lastChange;
    const values = names.map((name) => ({ name, value: prng.next() < 0.3 ? undefined : prng.below(1e6) }));
    this.changes.set(change, { names: values, move });
    this.#world.note(
      `change ${change} of ${names.map(keyOf).join(' ')}${move ? ` moves ${move.directory}` : ''}`,
    );
    this.#step({
      kind: 'change-wanted',
      change,
      names: names.map((name) => ({ name, ancestors: this.#world.place(name.directory) })),
      moved: move === undefined ? [] : [this.#world.place(move.directory)],
      by: undefined,
    });
    if (prng.next() < 0.05) this.#world.after(prng.next() * 500, () => this.#giveUp(change));
  }

  #giveUp(id: number): void {
    const change = this.changes.get(id);
    if (change !== undefined && !this.isDead && !this.#performing.has(id)) this.#finish(id, change);
  }

  readonly #performing = new Set<number>();

  #perform(id: number): void {
    const change = this.changes.get(id) as WorldChange;
    const { prng, truth, parents } = this.#world;
    this.#performing.add(id);
    this.#world.after(prng.next() * 30, () => {
      if (this.isDead) return;
      if (change.move !== undefined) {
        if (!this.#world.place(change.move.to).includes(change.move.directory)) {
          parents.set(change.move.directory, change.move.to);
        }
      }
      for (const { name, value } of change.names) {
        if (value === undefined) truth.delete(keyOf(name));
        else truth.set(keyOf(name), value);
      }
      this.#world.performed += 1;
      this.#world.note(`change ${id} performed`);
      this.#world.after(prng.next() * 10, () => {
        if (!this.isDead) this.#finish(id, change);
      });
    });
  }

  #finish(id: number, { names, move }: WorldChange): void {
    this.changes.delete(id);
    this.#step({
      kind: 'change-finished',
      change: id,
      updates: names.map(({ name }) => ({ name, inode: this.#world.truth.get(keyOf(name)) })),
      moved: move === undefined ? [] : [this.#world.place(move.directory)],
    });
  }

  #step(event: LeaseEvent<number>): void {
    for (const effect of this.#table.step(event, this.#world.nowMs)) this.#do(effect);
  }

  #do(effect: LeaseEffect<number>): void {
    const { rows } = this.#world;
    switch (effect.kind) {
      case 'send': {
        const to = this.#links.get(effect.stream);
        if (to === undefined) throw new Error('a message for a stream that has ended');
        return to.satellite.deliver(to.link, effect.message);
      }
      case 'close-stream': {
        const to = this.#links.get(effect.stream);
        this.#links.delete(effect.stream);
        this.#world.note(`stream ${effect.stream} closed: ${effect.reason}`);
        if (effect.reason === 'protocol') this.#world.problems.push(effect.text);
        return to?.satellite.broken(to.link, this.#world.delayMs());
      }
      case 'granted':
        this.#grant = effect.grant;
        return;
      case 'change-may-perform':
        return this.#perform(effect.change);
      case 'change-ended':
        // The step under way ends first.
        return this.#world.after(0, () => this.#waiting.splice(0).forEach((run) => run()));
      case 'remember-session':
        rows.set(effect.session.session, effect.session);
        return;
      case 'forget-session':
        rows.delete(effect.session);
        return;
      case 'wake-at':
        return this.#world.after(effect.ms - this.#world.nowMs, () => {
          if (!this.isDead) this.#step({ kind: 'time-passed' });
        });
      case 'acknowledged':
      case 'occurred':
    }
  }
}
