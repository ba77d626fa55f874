/** What the parts of the small model around the lease machines know of each other. */
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import type { Prng } from '../../lib/base/prng.ts';
import type { Ancestors, RememberedSession } from '../../lib/lease/lease-table-events.ts';
import type {
  Grant,
  LeasedName,
  LeaseTiming,
  OriginMessage,
  SatelliteMessage,
} from '../../lib/lease/lease.ts';

export const TIMING: LeaseTiming = { termMs: 1_000, heartbeatMs: 250, clockRateError: 0.01 };
export const DIRECTORIES = [1n, 2n, 3n, 4n, 5n] as InodeNumber[];

export type Value = number | undefined;

/** One connection: messages each way in order, until it breaks. */
export interface Link {
  readonly id: number;
  isUp: boolean;
  /** When the last message each way arrives. */
  upMs: number;
  downMs: number;
}

export interface LinkEnd {
  deliver(link: Link, message: OriginMessage<number>): void;
  broken(link: Link, delayMs: number): void;
}

export interface OriginEnd {
  readonly isDead: boolean;
  opened(link: Link, satellite: LinkEnd): void;
  closed(link: Link): void;
  receive(link: Link, message: SatelliteMessage): void;
  lookup(
    name: LeasedName,
    session: SessionId | undefined,
    answer: (value: Value, grant: Grant | undefined, chain: Ancestors) => void,
  ): void;
}

/** Time, chance, and what is true. */
export interface Surroundings {
  readonly nowMs: number;
  readonly prng: Prng;
  readonly truth: Map<string, number>;
  readonly parents: Map<InodeNumber, InodeNumber>;
  /** Durable at the origin. */
  readonly rows: Map<SessionId, RememberedSession>;
  readonly problems: string[];
  readonly origin: OriginEnd;
  performed: number;
  kept: number;
  after(delayMs: number, run: () => void): void;
  delayMs(): number;
  place(directory: InodeNumber): Ancestors;
  note(text: string): void;
}

export const keyOf = ({ directory, name }: LeasedName): string => `${directory}/${name}`;
export const nameIn = (directory: InodeNumber, name: string): LeasedName => ({
  directory,
  name,
  attributesOnly: false,
});
