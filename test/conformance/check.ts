/** What checks are made of. */
import assert from 'node:assert/strict';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Actor, ActorPool } from './actor.ts';

/** An empty directory of its own for each check, and other processes for as long as it lasts. */
export class Place {
  readonly directory: string;
  readonly #pool: ActorPool;
  readonly #actors: Actor[] = [];

  constructor(directory: string, pool: ActorPool) {
    this.directory = directory;
    this.#pool = pool;
  }

  at = (...path: string[]): string => join(this.directory, ...path);

  actor = async (): Promise<Actor> => {
    const actor = await this.#pool.take();
    this.#actors.push(actor);
    return actor;
  };

  async end(): Promise<void> {
    for (const actor of this.#actors) await this.#pool.giveBack(actor);
  }
}

export type Change = (place: Place) => Promise<void>;

export async function failsWith(
  code: string | readonly string[],
  run: () => Promise<unknown>,
  what: string,
): Promise<void> {
  await assert.rejects(run, (error: NodeJS.ErrnoException) => {
    const codes: readonly (string | undefined)[] = typeof code === 'string' ? [code] : code;
    assert(codes.includes(error.code), `${what}: ${error.code} instead of ${codes.join(' or ')}`);
    return true;
  });
}

/** Opens, uses and closes. */
export async function withFile<T>(
  path: string,
  flags: string | number,
  use: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const file = await open(path, flags, 0o644);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Bytes that are all different near each other. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}
