/** The only door to randomness: seeded where a run must be repeatable, the system's where an identity must be unique. */
import { randomBytes } from 'node:crypto';

export interface Prng {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, below). */
  below(below: number): number;
}

/** mulberry32: 32 bits of state, good enough for jitter, sampling and tests. */
export function seededPrng(seed: number): Prng {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return { next, below: (below) => Math.floor(next() * below) };
}

/** A generator seeded by the system. */
export function systemPrng(): Prng {
  return seededPrng(randomBytes(4).readUInt32LE(0));
}

/** `bytes` random bytes in lower-case hexadecimal. */
export function randomId(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}
