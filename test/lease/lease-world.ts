/**
 * One origin's lease table and some satellites' clients on a network that delays, loses and breaks, with clocks that run
 * at different rates: a small model around both machines, for property tests.
 *
 * At every moment each name that a satellite serves, its kernel included, must be what it truly is.
 */
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import type { Ancestors, RememberedSession } from '../../lib/lease/lease-table-events.ts';
import { WorldOrigin } from './world-origin.ts';
import { DIRECTORIES, nameIn, type Surroundings } from './world-parts.ts';
import { WorldSatellite } from './world-satellite.ts';

const NAMES = ['a', 'b'];

export class World implements Surroundings {
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
    this.origin = this.#originOf(1);
    this.satellites = Array.from({ length: satellites }, (_, at) => new WorldSatellite(this, at));
    for (const satellite of this.satellites) satellite.start();
  }

  #originOf(epoch: number): WorldOrigin {
    return new WorldOrigin(this, epoch, () => (this.origin = this.#originOf(epoch + 1)));
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
