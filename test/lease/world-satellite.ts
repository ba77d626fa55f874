/** A satellite of the small model: the client machine, the facts that it holds, and a kernel that forgets them later. */
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { LeaseClient, type LeaseClientEffect, type LeaseClientEvent } from '../../lib/lease/lease-client.ts';
import type { Ancestors } from '../../lib/lease/lease-table-events.ts';
import type { Grant, LeasedName, LeaseReference, OriginMessage } from '../../lib/lease/lease.ts';
import { keyOf, type Link, type LinkEnd, type Surroundings, TIMING, type Value } from './world-parts.ts';

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

export class WorldSatellite implements LinkEnd {
  readonly at: number;
  readonly #world: Surroundings;
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

  constructor(world: Surroundings, at: number) {
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
