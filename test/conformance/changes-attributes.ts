/** What modes, owners, times and extended attributes must do, and who may do what. */
import assert from 'node:assert/strict';
import {
  appendFile,
  chmod,
  chown,
  lchown,
  link,
  lstat,
  mkdir,
  readFile,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { constants } from 'node:fs';
import type { Actor } from './actor.ts';
import { type Change, failsWith, type Place, withFile } from './check.ts';
import {
  getExtendedAttribute,
  listExtendedAttributes,
  removeExtendedAttribute,
  setExtendedAttribute,
  setTimes,
  Time,
} from './posix.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC, R_OK, W_OK, X_OK } = constants;
const ALICE = 60_001;
const BOB = 60_002;
const NOW = { seconds: 0, nanoseconds: Time.NOW };
const OMIT = { seconds: 0, nanoseconds: Time.OMIT };
const PAST = { seconds: 1_000_000_000, nanoseconds: 0 };
const PAST_NS = 1_000_000_000_000_000_000n;

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o7777;

async function user(
  place: Place,
  uid: number,
  groups: readonly [number, ...number[]] = [uid],
): Promise<Actor> {
  const actor = await place.actor();
  await actor.do('become', uid, groups);
  return actor;
}

async function opens(actor: Actor, path: string, flags: number): Promise<void> {
  await actor.do('close', await actor.do('open', path, flags, 0o644));
}

const modes: Readonly<Record<string, Change>> = {
  'chmod sets every bit': async ({ at }) => {
    await writeFile(at('f'), '');
    await mkdir(at('d'));
    for (const path of [at('f'), at('d')])
      for (const mode of [0, 0o777, 0o400, 0o1755, 0o2755, 0o4755, 0o7777, 0o640]) {
        await chmod(path, mode);
        assert.equal(await modeOf(path), mode, path);
      }
    await withFile(at('f'), 'r', async (file) => {
      await file.chmod(0o600);
      assert.equal((await file.stat()).mode & 0o7777, 0o600);
    });
    await symlink('f', at('l'));
    await chmod(at('l'), 0o604);
    assert.equal(await modeOf(at('f')), 0o604, 'through a link');
    await failsWith('ENOENT', () => chmod(at('absent'), 0o644), 'nothing');
  },

  'chmod and chown move the time of change only': async ({ at }) => {
    await writeFile(at('f'), '');
    await setTimes(at('f'), PAST, PAST);
    const before = await stat(at('f'), { bigint: true });
    await chmod(at('f'), 0o600);
    await chown(at('f'), 5, 6);
    const after = await stat(at('f'), { bigint: true });
    assert.deepEqual([after.mtimeNs, after.atimeNs], [PAST_NS, PAST_NS]);
    assert(after.ctimeNs >= before.ctimeNs && after.ctimeNs > PAST_NS);
  },

  'chown sets owner and group, each by itself too': async ({ at }) => {
    await writeFile(at('f'), '');
    await symlink('f', at('l'));
    const owners = async (path: string): Promise<number[]> => {
      const { uid, gid } = await lstat(path);
      return [uid, gid];
    };
    await chown(at('f'), 123, 456);
    assert.deepEqual(await owners(at('f')), [123, 456]);
    await chown(at('f'), 0xffff_ffff, 7);
    assert.deepEqual(await owners(at('f')), [123, 7]);
    await chown(at('f'), 8, 0xffff_ffff);
    assert.deepEqual(await owners(at('f')), [8, 7]);
    await lchown(at('l'), 9, 10);
    assert.deepEqual(await owners(at('l')), [9, 10]);
    assert.deepEqual(await owners(at('f')), [8, 7], 'not through the link');
    await chown(at('f'), 3_000_000_000, 4_000_000_000);
    assert.deepEqual(await owners(at('f')), [3_000_000_000, 4_000_000_000], 'all 32 bits');
  },

  'chown takes set-ID bits off a program, not off a directory': async ({ at }) => {
    await writeFile(at('f'), '');
    await mkdir(at('d'));
    await chmod(at('f'), 0o6755);
    await chmod(at('d'), 0o6755);
    await chown(at('f'), 1, 1);
    await chown(at('d'), 1, 1);
    assert.equal(await modeOf(at('f')), 0o755);
    assert.equal(await modeOf(at('d')), 0o6755);
  },

  'writing takes set-ID bits off, unless root writes': async (place) => {
    const { at } = place;
    const alice = await user(place, ALICE);
    await writeFile(at('f'), 'content');
    const changes: Readonly<Record<string, () => Promise<unknown>>> = {
      write: async () => {
        const fd = await alice.do('open', at('f'), O_WRONLY, 0);
        await alice.do('write', fd, 'x');
        await alice.do('close', fd);
      },
      truncate: () => alice.do('truncate', at('f'), 3),
      O_TRUNC: () => opens(alice, at('f'), O_WRONLY | O_TRUNC),
    };
    for (const [what, change] of Object.entries(changes)) {
      await chmod(at('f'), 0o6777);
      await change();
      assert.equal(await modeOf(at('f')), 0o777, what);
    }
    await chmod(at('f'), 0o6777);
    await appendFile(at('f'), 'root');
    assert.equal(await modeOf(at('f')), 0o6777, 'root may keep them');
  },

  'times are set to the nanosecond, to now, or left': async ({ at }) => {
    await writeFile(at('f'), '');
    await symlink('f', at('l'));
    const times = async (path: string): Promise<readonly bigint[]> => {
      const { atimeNs, mtimeNs } = await lstat(path, { bigint: true });
      return [atimeNs, mtimeNs];
    };
    await setTimes(
      at('f'),
      { seconds: 1, nanoseconds: 999_999_999 },
      { seconds: 4_102_444_800, nanoseconds: 1 },
    );
    assert.deepEqual(await times(at('f')), [1_999_999_999n, 4_102_444_800_000_000_001n]);
    await setTimes(at('f'), OMIT, PAST);
    assert.deepEqual(await times(at('f')), [1_999_999_999n, PAST_NS]);
    await setTimes(at('f'), PAST, OMIT);
    assert.deepEqual(await times(at('f')), [PAST_NS, PAST_NS]);
    await setTimes(at('f'), OMIT, NOW);
    const [accessed, modified] = await times(at('f'));
    assert.equal(accessed, PAST_NS);
    assert((modified ?? 0n) > PAST_NS);
    await setTimes(at('l'), PAST, PAST);
    assert.deepEqual(await times(at('l')), [PAST_NS, PAST_NS], 'of a link itself');
    await mkdir(at('d'));
    await setTimes(at('d'), PAST, PAST);
    assert.deepEqual(await times(at('d')), [PAST_NS, PAST_NS]);
    const wrong = { seconds: 0, nanoseconds: 1_000_000_000 };
    await failsWith('EINVAL', () => setTimes(at('f'), wrong, OMIT), 'more than a second');
  },

  'times before 1970 can be set': async ({ at }) => {
    await writeFile(at('f'), '');
    await setTimes(at('f'), { seconds: -1, nanoseconds: 500_000_000 }, { seconds: -1_000, nanoseconds: 0 });
    const { atimeNs, mtimeNs } = await stat(at('f'), { bigint: true });
    assert.deepEqual([atimeNs, mtimeNs], [-500_000_000n, -1_000_000_000_000n]);
  },

  'extended attributes are set, replaced, listed and removed': async ({ at }) => {
    await writeFile(at('f'), '');
    await mkdir(at('d'));
    for (const path of [at('f'), at('d')]) {
      const get = async (name: string): Promise<string> =>
        (await getExtendedAttribute(path, name, 2_000)).value.toString();
      await setExtendedAttribute(path, 'user.one', Buffer.from('first'));
      await setExtendedAttribute(path, 'user.one', Buffer.from('second'));
      await setExtendedAttribute(path, 'user.empty', Buffer.alloc(0));
      await setExtendedAttribute(path, 'user.long', Buffer.alloc(1_000, 'x'));
      assert.equal(await get('user.one'), 'second');
      assert.equal(await get('user.empty'), '');
      assert.equal((await get('user.long')).length, 1_000);
      const listed = (await listExtendedAttributes(path)).filter((name) => name.startsWith('user.'));
      assert.deepEqual(listed.toSorted(), ['user.empty', 'user.long', 'user.one']);
      await removeExtendedAttribute(path, 'user.one');
      await failsWith('ENODATA', () => get('user.one'), 'gone');
      await failsWith('ENODATA', () => removeExtendedAttribute(path, 'user.one'), 'twice');
    }
  },

  'extended attributes are created or replaced as it is asked': async ({ at }) => {
    await writeFile(at('f'), '');
    const set = (mode: number): Promise<number> =>
      setExtendedAttribute(at('f'), 'user.x', Buffer.from('x'), mode);
    const [create, replace] = [1, 2];
    await failsWith('ENODATA', () => set(replace), 'replace what is not there');
    await set(create);
    await failsWith('EEXIST', () => set(create), 'create what is there');
    await set(replace);
    await failsWith('EINVAL', () => set(8), 'unknown flags');
    const longest = `user.${'n'.repeat(250)}`;
    await setExtendedAttribute(at('f'), longest, Buffer.from('x'));
    await failsWith(
      'ERANGE',
      () => setExtendedAttribute(at('f'), `${longest}n`, Buffer.from('x')),
      'too long',
    );
    await failsWith(
      'E2BIG',
      () => setExtendedAttribute(at('f'), 'user.y', Buffer.alloc(65_537)),
      'too large',
    );
  },
};

const permissions: Readonly<Record<string, Change>> = {
  'files are opened as their mode allows': async (place) => {
    const { at } = place;
    const [alice, bob] = [await user(place, ALICE, [ALICE, 77]), await user(place, BOB)];
    const allowed = async (actor: Actor, mode: number): Promise<string> => {
      await chmod(at('f'), mode);
      let may = '';
      for (const [letter, flags] of [
        ['r', O_RDONLY],
        ['w', O_WRONLY],
      ] as const)
        may += await opens(actor, at('f'), flags).then(
          () => letter,
          () => '-',
        );
      for (const [letter, mask] of [
        ['r', R_OK],
        ['w', W_OK],
        ['x', X_OK],
      ] as const) {
        const says = await actor.do('access', at('f'), mask).then(
          () => true,
          () => false,
        );
        if (letter !== 'x')
          assert.equal(says, may.includes(letter), `access to ${letter} of ${mode.toString(8)}`);
      }
      return may;
    };
    await writeFile(at('f'), 'x');
    await chown(at('f'), ALICE, 0);
    assert.equal(await allowed(alice, 0o600), 'rw');
    assert.equal(await allowed(alice, 0o400), 'r-');
    assert.equal(await allowed(alice, 0o066), '--', 'an owner is not one of the others');
    assert.equal(await allowed(bob, 0o604), 'r-');
    assert.equal(await allowed(bob, 0o660), '--');
    await chown(at('f'), 0, 77);
    assert.equal(await allowed(alice, 0o060), 'rw', 'by a supplementary group');
    assert.equal(await allowed(alice, 0o606), '--', 'a group is not the others');
    await chown(at('f'), 0, BOB);
    assert.equal(await allowed(bob, 0o040), 'r-');
  },

  'directories are used as their mode allows': async (place) => {
    const { at, directory } = place;
    const alice = await user(place, ALICE);
    await mkdir(at('d'));
    await writeFile(at('d', 'f'), 'x');
    const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
      create: () => opens(alice, at('d', 'g'), O_WRONLY | O_CREAT),
      mkdir: () => alice.do('mkdir', at('d', 'e'), 0o755),
      unlink: () => alice.do('unlink', at('d', 'f')),
      rename: () => alice.do('rename', at('d', 'f'), at('d', 'g')),
      'rename in': () => alice.do('rename', at('own'), at('d', 'g')),
    };
    await chmod(directory, 0o777);
    await opens(alice, at('own'), O_WRONLY | O_CREAT);
    for (const [what, attempt] of Object.entries(attempts)) await failsWith('EACCES', attempt, what);
    await chmod(at('d'), 0o666);
    await failsWith('EACCES', () => opens(alice, at('d', 'f'), O_RDONLY), 'no way through');
    assert.deepEqual(await alice.do('readdir', at('d')), ['f'], 'but it can be listed');
    await chmod(at('d'), 0o711);
    await opens(alice, at('d', 'f'), O_RDONLY);
    await failsWith('EACCES', () => alice.do('readdir', at('d')), 'no listing');
    await chmod(at('d'), 0o777);
    for (const [what, attempt] of Object.entries(attempts))
      if (what !== 'rename' && what !== 'rename in') await attempt();
  },

  'what is made belongs to who made it': async (place) => {
    const { at, directory } = place;
    await chmod(directory, 0o777);
    const alice = await user(place, ALICE, [ALICE, 77]);
    await opens(alice, at('f'), O_WRONLY | O_CREAT);
    await alice.do('mkdir', at('d'), 0o755);
    for (const path of [at('f'), at('d')]) {
      const { uid, gid } = await stat(path);
      assert.deepEqual([uid, gid], [ALICE, ALICE], path);
    }
  },

  'only its owner changes a file': async (place) => {
    const { at } = place;
    const [alice, bob] = [await user(place, ALICE, [ALICE, 77]), await user(place, BOB)];
    await writeFile(at('f'), '');
    await chown(at('f'), ALICE, ALICE);
    await chmod(at('f'), 0o666);
    await failsWith('EPERM', () => bob.do('chmod', at('f'), 0o777), 'chmod');
    await failsWith('EPERM', () => bob.do('chown', at('f'), BOB, BOB), 'chown');
    await failsWith('EPERM', () => bob.do('setTimes', at('f'), PAST, PAST), 'times');
    await bob.do('setTimes', at('f'), NOW, NOW);
    await alice.do('chmod', at('f'), 0o644);
    await failsWith('EACCES', () => bob.do('setTimes', at('f'), NOW, NOW), 'now, without write permission');
    await failsWith('EACCES', () => bob.do('truncate', at('f'), 0), 'truncate');
    await alice.do('setTimes', at('f'), PAST, PAST);
    await failsWith('EPERM', () => alice.do('chown', at('f'), BOB, ALICE), 'giving it away');
    await failsWith('EPERM', () => alice.do('chown', at('f'), ALICE, BOB), "another's group");
    await alice.do('chown', at('f'), ALICE, 77);
    assert.equal((await stat(at('f'))).gid, 77, 'a group of its own');
    await chown(at('f'), ALICE, BOB);
    await alice.do('chmod', at('f'), 0o2755);
    assert.equal(await modeOf(at('f')), 0o755, 'no set-group-ID bit for a group of others');
  },

  'in a sticky directory only owners remove and rename': async (place) => {
    const { at } = place;
    const [alice, bob] = [await user(place, ALICE), await user(place, BOB)];
    await mkdir(at('d'));
    await chmod(at('d'), 0o1777);
    await opens(alice, at('d', 'alice'), O_WRONLY | O_CREAT);
    await opens(bob, at('d', 'bob'), O_WRONLY | O_CREAT);
    await alice.do('mkdir', at('d', 'directory'), 0o777);
    await failsWith('EPERM', () => bob.do('unlink', at('d', 'alice')), 'unlink');
    await failsWith('EPERM', () => bob.do('rmdir', at('d', 'directory')), 'rmdir');
    await failsWith('EPERM', () => bob.do('rename', at('d', 'alice'), at('d', 'x')), 'rename');
    await failsWith('EPERM', () => bob.do('rename', at('d', 'bob'), at('d', 'alice')), 'rename onto it');
    await alice.do('rename', at('d', 'alice'), at('d', 'renamed'));
    await alice.do('unlink', at('d', 'renamed'));
    await chown(at('d'), BOB, BOB);
    await bob.do('rmdir', at('d', 'directory'));
  },

  'a change shows under every name at once': async ({ at }) => {
    await writeFile(at('f'), 'abc');
    await link(at('f'), at('g'));
    await stat(at('g'));
    await truncate(at('f'), 1);
    assert.equal((await stat(at('g'))).size, 1);
    await chown(at('g'), 12, 13);
    assert.equal((await stat(at('f'))).uid, 12);
    assert.equal(await readFile(at('g'), 'utf8'), 'a');
  },
};

export const attributes: Readonly<Record<string, Change>> = { ...modes, ...permissions };
