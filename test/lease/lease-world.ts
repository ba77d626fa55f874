/**
 * One origin's lease table and some satellites' clients on a network that delays, loses and breaks, with clocks that run
 * at different rates: a small model around both machines, for property tests.
 *
 * At every moment each name that a satellite serves, its kernel included, must be what it truly is.
 */
import type { Epoch, InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { LeaseClient, type LeaseClientEffect, type LeaseClientEvent } from '../../lib/lease/lease-client.ts';
import { LeaseTable } from '../../lib/lease/lease-table.ts';
import type {
  Ancestors,
  LeaseEffect,
  LeaseEvent,
  RememberedSession,
} from '../../lib/lease/lease-table-events.ts';
import type {
  Grant,
  LeasedName,
  LeaseReference,
  LeaseTiming,
  OriginMessage,
  SatelliteMessage,
} from '../../lib/lease/lease.ts';

export const TIMING: LeaseTiming = { termMs: 1_000, heartbeatMs: 250, clockRateError: 0.01 };
const QUIET_MS = 300;
const DIRECTORIES = [1n, 2n, 3n, 4n, 5n] as InodeNumber[];
const NAMES = ['a', 'b'];

type Value = number | undefined;

interface Fact {
  readonly value: Value;
  readonly sequence: number;
  readonly chain: Ancestors;
  readonly lease: LeaseReference;
}

interface Question {
  readonly name: LeasedName;
  readonly chain: Ancestors;
  readonly session: SessionId | undefined;
  /** Of the last message that concerned it; Infinity after a drop. */
  marked: number;
}

interface WorldChange {
  readonly names: readonly { readonly name: LeasedName; readonly value: Value }[];
  readonly move: { readonly directory: InodeNumber; readonly to: InodeNumber } | undefined;
  readonly wantedMs: number;
  readonly origin: WorldOrigin;
}

/** One connection: messages each way in order, until it breaks. */
interface Link {
  readonly id: number;
  isUp: boolean;
  upMs: number;
  downMs: number;
}

const keyOf = ({ directory, name }: LeasedName): string => `${directory}/${name}`;
const nameIn = (directory: InodeNumber, name: string): LeasedName => ({
  directory,
  name,
  attributesOnly: false,
});

export class World {
  nowMs = 0;
  readonly prng: Prng;
  readonly truth = new Map<string, number>();
  readonly parents = new Map<InodeNumber, InodeNumber>([
    [2n, 1n],
    [3n, 1n],
    [4n, 2n],
    [5n, 4n],
  ] as [InodeNumber, InodeNumber][]);
  readonly rows = new Map<SessionId, RememberedSession>();
  readonly satellites: WorldSatellite[];
  readonly problems: string[] = [];
  readonly log: string[] = [];
  /** Faults happen. */
  isRough = true;
  performed = 0;
  kept = 0;
  origin: WorldOrigin;
  #events: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = [];
  #order = 0;

  constructor(seed: number, satellites: number) {
    this.prng = seededPrng(seed);
    this.origin = new WorldOrigin(this, 1);
    this.satellites = Array.from({ length: satellites }, (_, at) => new WorldSatellite(this, at));
    for (const satellite of this.satellites) satellite.start();
  }

  after(delayMs: number, run: () => void): void {
    this.#events.push({ atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run });
    this.#events.sort((one, other) => other.atMs - one.atMs || other.order - one.order);
  }

  /** Mostly short, seldom longer than a term. */
  delayMs(): number {
    const kind = this.isRough ? this.prng.next() : 0;
    return kind < 0.9
      ? this.prng.next() * 20
      : kind < 0.98
        ? this.prng.next() * 300
        : this.prng.next() * 1_500;
  }

  run(untilMs: number): void {
    for (;;) {
      const next = this.#events.at(-1);
      if (next === undefined || next.atMs > untilMs) break;
      this.#events.pop();
      this.nowMs = next.atMs;
      next.run();
      this.check();
      if (this.problems.length > 0) return;
    }
    this.nowMs = untilMs;
  }

  place(directory: InodeNumber): Ancestors {
    const chain = [directory];
    for (let at = this.parents.get(directory); at !== undefined; at = this.parents.get(at)) chain.push(at);
    return chain;
  }

  note(text: string): void {
    this.log.push(`${this.nowMs.toFixed(1)} ${text}`);
  }

  check(): void {
    for (const satellite of this.satellites) {
      for (const [key, { value }] of satellite.served()) {
        if (this.truth.get(key) === value) continue;
        this.problems.push(
          `satellite ${satellite.at} serves ${key} = ${value}, and it is ${this.truth.get(key)}`,
        );
      }
    }
  }

  pick<T>(from: readonly T[]): T {
    return from[this.prng.below(from.length)] as T;
  }

  /** One thing that somebody does. */
  act(): void {
    const dice = this.prng.next();
    const satellite = this.pick(this.satellites);
    const name = nameIn(this.pick(DIRECTORIES), this.pick(NAMES));
    if (dice < 0.55) satellite.ask(name);
    else if (dice < 0.75) this.origin.want([name], undefined);
    else if (dice < 0.8)
      this.origin.want([name, nameIn(this.pick(DIRECTORIES), this.pick(NAMES))], undefined);
    else if (dice < 0.84) this.#move();
    else if (dice < 0.88) satellite.release(this.pick(DIRECTORIES));
    else if (!this.isRough) satellite.ask(name);
    else if (dice < 0.94) satellite.cut();
    else if (dice < 0.96) satellite.restart();
    else if (dice < 0.975) this.origin.crash();
    else satellite.pause(this.prng.next() * 2_500);
  }

  #move(): void {
    const directory = this.pick([4n, 5n] as InodeNumber[]);
    const to = this.pick(DIRECTORIES);
    if (this.place(to).includes(directory)) return;
    this.origin.want([nameIn(directory, 'entry')], { directory, to });
  }
}

export class WorldOrigin {
  readonly #world: World;
  readonly #epoch: number;
  readonly #table: LeaseTable<number>;
  readonly #links = new Map<number, { readonly link: Link; readonly satellite: WorldSatellite }>();
  readonly changes = new Map<number, WorldChange>();
  /** Lookups of names under change. */
  #waiting: (() => void)[] = [];
  #lastChange = 0;
  #grant: Grant | undefined;
  isDead = false;

  constructor(world: World, epoch: number) {
    this.#world = world;
    this.#epoch = epoch;
    this.#table = new LeaseTable({ epoch: epoch as Epoch, timing: TIMING, quietMs: QUIET_MS });
    this.#step({ kind: 'started', awaited: [...world.rows.values()] });
  }

  crash(): void {
    const { prng } = this.#world;
    this.#world.note('origin restarts');
    this.isDead = true;
    for (const { link, satellite } of [...this.#links.values()]) satellite.broken(link, prng.next() * 100);
    this.#world.origin = new WorldOrigin(this.#world, this.#epoch + 1);
  }

  get unfinished(): number {
    return this.#table.changes;
  }

  get sessions(): number {
    return this.#table.sessionCount;
  }

  opened(link: Link, satellite: WorldSatellite): void {
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
    const { prng, nowMs } = this.#world;
    const change = ++this.#lastChange;
    const values = names.map((name) => ({ name, value: prng.next() < 0.3 ? undefined : prng.below(1e6) }));
    this.changes.set(change, { names: values, move, wantedMs: nowMs, origin: this });
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
    const { after, prng, truth, parents } = this.#world;
    this.#performing.add(id);
    after.call(this.#world, prng.next() * 30, () => {
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
      after.call(this.#world, prng.next() * 10, () => {
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

export class WorldSatellite {
  readonly at: number;
  readonly #world: World;
  readonly #rate: number;
  readonly facts = new Map<string, Fact>();
  /** What was given up but the kernel still has, with the number of pieces of work that will end it. */
  readonly #kernel = new Map<
    number,
    { readonly facts: ReadonlyMap<string, Fact>; readonly untilMs: number }
  >();
  #questions = new Set<Question>();
  #client: LeaseClient<number>;
  #link: Link | undefined;
  #validUntilMs = -Infinity;
  #pausedUntilMs = 0;
  #kernelUntilMs = 0;
  #work = 0;
  #life = 0;

  constructor(world: World, at: number) {
    this.#world = world;
    this.at = at;
    this.#rate = 1 + (world.prng.next() - 0.5) * TIMING.clockRateError;
    this.#client = new LeaseClient({ clockRateError: TIMING.clockRateError });
  }

  start(): void {
    this.#step({ kind: 'start' });
  }

  #clockMs(): number {
    return this.#world.nowMs * this.#rate;
  }

  get state(): string {
    return this.#client.state.kind;
  }

  *served(): Generator<[string, Fact]> {
    if (this.#clockMs() < this.#validUntilMs) yield* this.facts;
    for (const { facts, untilMs } of this.#kernel.values()) if (this.#clockMs() < untilMs) yield* facts;
  }

  // --- What happens to it ---

  cut(): void {
    const link = this.#link;
    if (link === undefined) return;
    this.#world.note(`satellite ${this.at} loses its stream`);
    this.broken(link, this.#world.delayMs());
    this.#world.after(this.#world.delayMs(), () => this.#world.origin.closed(link));
  }

  pause(ms: number): void {
    this.#world.note(`satellite ${this.at} is stopped for ${ms.toFixed(0)}`);
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#world.nowMs + ms);
  }

  /** The process is killed, the mount with it. */
  restart(): void {
    this.#world.note(`satellite ${this.at} restarts`);
    const link = this.#link;
    this.#life += 1;
    this.facts.clear();
    this.#kernel.clear();
    this.#questions.clear();
    this.#link = undefined;
    this.#validUntilMs = -Infinity;
    if (link !== undefined) {
      link.isUp = false;
      this.#world.after(this.#world.delayMs(), () => this.#world.origin.closed(link));
    }
    this.#client = new LeaseClient({ clockRateError: TIMING.clockRateError });
    this.start();
  }

  /** Runs when the process does, and only in this life of it. */
  #later(delayMs: number, run: () => void): void {
    const life = this.#life;
    const go = (): void => {
      if (life !== this.#life) return;
      const pausedMs = this.#pausedUntilMs - this.#world.nowMs;
      if (pausedMs > 0) this.#world.after(pausedMs, go);
      else run();
    };
    this.#world.after(delayMs, go);
  }

  broken(link: Link, delayMs: number): void {
    link.isUp = false;
    this.#later(delayMs, () => {
      if (this.#link !== link) return;
      this.#link = undefined;
      this.#step({ kind: 'stream-broken', jitter: this.#world.prng.next() });
    });
  }

  deliver(link: Link, message: OriginMessage<number>): void {
    const { nowMs } = this.#world;
    link.downMs = Math.max(link.downMs, nowMs + this.#world.delayMs());
    this.#later(link.downMs - nowMs, () => {
      if (link.isUp && this.#link === link) this.#step({ kind: 'message', message });
    });
  }

  // --- What it does ---

  ask(name: LeasedName): void {
    const key = keyOf(name);
    if (this.facts.has(key) && this.#clockMs() < this.#validUntilMs) return;
    const question: Question = {
      name,
      chain: this.#world.place(name.directory),
      session: this.#client.session,
      marked: 0,
    };
    this.#questions.add(question);
    this.#world.after(this.#world.delayMs(), () =>
      this.#world.origin.lookup(name, question.session, (value, grant, chain) =>
        this.#later(this.#world.delayMs(), () => this.#answered(question, { value, grant, chain })),
      ),
    );
  }

  #answered(
    question: Question,
    {
      value,
      grant,
      chain,
    }: { readonly value: Value; readonly grant: Grant | undefined; readonly chain: Ancestors },
  ): void {
    this.#step({ kind: 'time-passed' });
    if (!this.#questions.delete(question) || grant === undefined) return;
    if (question.session !== this.#client.session || question.marked > grant.sequence) return;
    const key = keyOf(question.name);
    if ((this.facts.get(key)?.sequence ?? -1) > grant.sequence) return;
    this.#world.kept += 1;
    this.facts.set(key, { value, sequence: grant.sequence, chain, lease: grant.lease });
  }

  release(directory: InodeNumber): void {
    this.#step({ kind: 'released', directories: [directory] });
  }

  #step(event: LeaseClientEvent<number>): void {
    for (const effect of this.#client.step(event, this.#clockMs())) this.#do(effect);
  }

  #do(effect: LeaseClientEffect<number>): void {
    switch (effect.kind) {
      case 'open-stream':
        return this.#open();
      case 'end-stream': {
        const link = this.#link;
        if (link === undefined) return;
        this.broken(link, 0);
        return this.#world.after(this.#world.delayMs(), () => this.#world.origin.closed(link));
      }
      case 'send': {
        const link = this.#link;
        if (link === undefined) return;
        const { nowMs, origin } = this.#world;
        link.upMs = Math.max(link.upMs, nowMs + this.#world.delayMs());
        return this.#world.after(link.upMs - nowMs, () => {
          if (link.isUp) origin.receive(link, effect.message);
        });
      }
      case 'apply-withdraw': {
        const { names, moved, sequence } = effect.message;
        const keys = new Set(names.map(keyOf));
        const concerns = (key: string, chain: Ancestors): boolean =>
          keys.has(key) || moved.some((directory) => chain.includes(directory));
        return this.#forget(sequence, concerns, () =>
          this.#step({ kind: 'applied', session: effect.session, sequence, released: this.#released(names) }),
        );
      }
      case 'apply-recall': {
        const { leases, sequence } = effect.message;
        const concerns = (_: string, chain: Ancestors): boolean =>
          leases.length === 0 ||
          leases.some(({ directory, subtree }) =>
            subtree ? chain.includes(directory) : chain[0] === directory,
          );
        return this.#forget(sequence, concerns, () =>
          this.#step({ kind: 'applied', session: effect.session, sequence, released: [] }),
        );
      }
      case 'apply-update': {
        const { names, sequence } = effect.message;
        for (const { name, inode } of names) {
          const fact = this.facts.get(keyOf(name));
          // Stored only where something of the directory is known: there the lease is known too.
          if (fact !== undefined && fact.sequence < sequence) {
            this.facts.set(keyOf(name), { ...fact, value: inode, sequence });
          }
        }
        return;
      }
      case 'drop': {
        const kept = new Map<string, Fact>();
        for (const [key, fact] of this.facts) {
          const isKept = effect.keep.some(
            ({ directory, subtree }) => directory === fact.lease.directory && subtree === fact.lease.subtree,
          );
          if (isKept && fact.value !== undefined) kept.set(key, { ...fact, sequence: 0 });
        }
        this.#forget(
          Infinity,
          () => true,
          () => this.#step({ kind: 'dropped', drop: effect.drop }),
        );
        for (const [key, fact] of kept) this.facts.set(key, fact);
        return;
      }
      case 'wake-at':
        if (effect.ms === Infinity) return;
        return this.#later((effect.ms - this.#clockMs()) / this.#rate + 0.001, () =>
          this.#step({ kind: 'time-passed' }),
        );
      case 'set-term':
        this.#validUntilMs = effect.validUntilMs;
        return;
      case 'session':
    }
  }

  #open(): void {
    const link: Link = { id: this.#world.prng.below(1e12), isUp: true, upMs: 0, downMs: 0 };
    this.#link = link;
    const { origin } = this.#world;
    this.#later(this.#world.delayMs(), () => {
      if (!link.isUp || this.#link !== link) return;
      if (origin.isDead) return this.broken(link, 0);
      origin.opened(link, this);
      const held = [...this.facts.values()].map(({ lease }) => lease);
      this.#step({ kind: 'connected', host: `h${this.at}`, labels: {}, held });
    });
  }

  /** Directories of the names about which nothing is known, sometimes. */
  #released(names: readonly LeasedName[]): InodeNumber[] {
    if (this.#world.prng.next() < 0.5) return [];
    const known = [...this.facts.values()].flatMap(({ chain }) => chain);
    return names.map(({ directory }) => directory).filter((directory) => !known.includes(directory));
  }

  /** Forgets at once; the kernel forgets a while later. */
  #forget(sequence: number, concerns: (key: string, chain: Ancestors) => boolean, done: () => void): void {
    const forgotten = new Map<string, Fact>();
    for (const [key, fact] of this.facts) {
      if (fact.sequence >= sequence || !concerns(key, fact.chain)) continue;
      forgotten.set(key, fact);
      this.facts.delete(key);
    }
    for (const question of this.#questions) {
      if (concerns(keyOf(question.name), question.chain))
        question.marked = Math.max(question.marked, sequence);
    }
    const work = ++this.#work;
    this.#kernel.set(work, { facts: forgotten, untilMs: this.#validUntilMs });
    // One after the other: what an earlier message named may be on its way out still when a later one names it.
    const { nowMs } = this.#world;
    this.#kernelUntilMs = Math.max(this.#kernelUntilMs, nowMs + this.#world.prng.next() * 50);
    this.#later(this.#kernelUntilMs - nowMs, () => {
      this.#kernel.delete(work);
      done();
    });
  }
}
