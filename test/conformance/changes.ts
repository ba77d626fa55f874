/**
 * What every mount must do that can be written to, as a list of named checks: the ground of pjdfstest, and what programs
 * do beyond it. The same list runs on a plain local directory, which is right by definition, and on both drivers.
 */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ActorPool } from './actor.ts';
import { attributes } from './changes-attributes.ts';
import { contents } from './changes-contents.ts';
import { files } from './changes-files.ts';
import { locks } from './changes-locks.ts';
import { names } from './changes-names.ts';
import { type Change, Place } from './check.ts';

const changes: Readonly<Record<string, Change>> = {
  ...files,
  ...contents,
  ...names,
  ...attributes,
  ...locks,
};

export interface ChangesOptions {
  /** Empty, and open to every user. */
  readonly root: string;
  /** Names of checks that do not apply and are left out, with the reason. */
  readonly skip?: Readonly<Record<string, string>>;
}

/** Runs the list as one subtest for each check, each in a directory of its own. */
export async function runChanges(t: Test, { root, skip = {} }: ChangesOptions): Promise<void> {
  for (const name of Object.keys(skip))
    if (changes[name] === undefined) t.fail(`a check that is left out does not exist: ${name}`);
  const pool = new ActorPool();
  t.teardown(() => pool.end());
  for (const [index, [name, check]] of Object.entries(changes).entries()) {
    if (skip[name] !== undefined) {
      t.comment(`left out: ${name}: ${skip[name]}`);
      continue;
    }
    await t.test(name, async () => {
      const place = new Place(join(root, `check-${index}`), pool);
      await mkdir(place.directory);
      await chmod(place.directory, 0o755);
      try {
        await check(place);
      } finally {
        await place.end();
        await rm(place.directory, { recursive: true, force: true });
      }
    });
  }
}
