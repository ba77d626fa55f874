/** What locks between processes must do. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import type { Actor } from './actor.ts';
import { type Change, failsWith, type Place } from './check.ts';
import { flock, type PosixLock } from './posix.ts';

const { O_RDWR, O_RDONLY } = constants;

const range = (kind: PosixLock['kind'], start = 0, length = 0): PosixLock => ({ kind, start, length });

/** A process with the file open. */
async function holder(place: Place, flags: number = O_RDWR): Promise<{ actor: Actor; fd: number }> {
  const actor = await place.actor();
  return { actor, fd: await actor.do('open', place.at('f'), flags, 0) };
}

type Holder = Awaited<ReturnType<typeof holder>>;
const set = ({ actor, fd }: Holder, lock: PosixLock): Promise<unknown> => actor.do('lock', fd, 'set', lock);
const wait = ({ actor, fd }: Holder, lock: PosixLock): Promise<unknown> => actor.do('lock', fd, 'wait', lock);
const test = (of: Holder, lock: PosixLock): Promise<PosixLock & { readonly pid: number }> =>
  of.actor.do('lock', of.fd, 'test', lock);

const BUSY = ['EAGAIN', 'EACCES'];

/** Whether a promise has settled by the time that `other` has. */
async function isPending(promise: Promise<unknown>, other: () => Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  await other();
  return !settled;
}

export const locks: Readonly<Record<string, Change>> = {
  'fcntl locks exclude other processes by range and kind': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await set(one, range('write', 10, 10));
    await failsWith(BUSY, () => set(other, range('read', 19, 1)), 'the last byte');
    await failsWith(BUSY, () => set(other, range('write')), 'all of it');
    await set(other, range('write', 20, 5));
    await set(other, range('write', 0, 10));
    const found = await test(other, range('read', 5, 100));
    assert.deepEqual(found, { kind: 'write', start: 10, length: 10, pid: one.actor.pid });
    assert.equal((await test(other, range('write', 25))).kind, 'none');
    await set(one, range('read', 10, 10));
    await set(other, range('read', 15, 1));
    await failsWith(BUSY, () => set(one, range('write', 10, 10)), 'a reader is in the way');
    assert.equal((await test(one, range('write', 0, 1))).pid, other.actor.pid);
  },

  'fcntl locks are split and joined': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await set(one, range('write', 0, 100));
    await set(one, range('none', 40, 20));
    await set(other, range('write', 40, 20));
    await failsWith(BUSY, () => set(other, range('write', 39, 1)), 'before the gap');
    await failsWith(BUSY, () => set(other, range('write', 60, 1)), 'after the gap');
    await set(other, range('none'));
    await set(one, range('write', 40, 20));
    assert.deepEqual(await test(other, range('read', 50, 1)), {
      ...range('write', 0, 100),
      pid: one.actor.pid,
    });
    await set(one, range('none', 50));
    assert.equal((await test(other, range('write', 50))).kind, 'none');
  },

  'fcntl locks end when their process closes any descriptor of the file': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    const second = await one.actor.do('open', place.at('f'), O_RDONLY, 0);
    await set(one, range('write'));
    await failsWith(BUSY, () => set(other, range('read')), 'held');
    await one.actor.do('close', second);
    await set(other, range('write'));
    await failsWith(BUSY, () => set(one, range('read')), 'lost');
  },

  'fcntl locks end with their process': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await set(one, range('write'));
    const waiting = wait(other, range('write'));
    assert(await isPending(waiting, () => test(other, range('write'))));
    await one.actor.kill('SIGKILL');
    await waiting;
  },

  'fcntl waits for others, and for no longer than they hold': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other, third] = [await holder(place), await holder(place), await holder(place)];
    await set(one, range('write', 0, 10));
    const waiting = wait(other, range('read', 5, 10));
    const alsoWaiting = wait(third, range('read', 0, 6));
    assert(await isPending(waiting, () => test(other, range('write'))));
    assert(await isPending(alsoWaiting, () => test(third, range('write'))));
    await set(one, range('none', 0, 10));
    await Promise.all([waiting, alsoWaiting]);
    await failsWith(BUSY, () => set(one, range('write', 0, 10)), 'they have it now');
  },

  'a process that waits for a lock can be killed, and leaves none': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await set(one, range('write'));
    const waiting = wait(other, range('write'));
    assert(await isPending(waiting, () => test(other, range('write'))));
    await other.actor.kill('SIGTERM');
    await failsWith('EXITED', () => waiting, 'it is gone');
    await set(one, range('none'));
    await set(await holder(place), range('write'));
  },

  'fcntl says when processes would wait for each other for ever': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await set(one, range('write', 0, 1));
    await set(other, range('write', 1, 1));
    const waiting = wait(one, range('write', 1, 1));
    assert(await isPending(waiting, () => test(one, range('write', 1, 1))));
    await failsWith('EDEADLK', () => wait(other, range('write', 0, 1)), 'a circle');
    await set(other, range('none'));
    await waiting;
  },

  'fcntl locks need a descriptor of their kind': async (place) => {
    await writeFile(place.at('f'), 'x');
    const reader = await holder(place, O_RDONLY);
    await set(reader, range('read'));
    await failsWith('EBADF', () => set(reader, range('write')), 'a write lock of a reader');
    const writer = await holder(place);
    await failsWith(BUSY, () => set(writer, range('write')), 'the reader is in the way');
    await reader.actor.do('close', reader.fd);
    await wait(writer, range('write'));
  },

  'flock belongs to the open file': async (place) => {
    await writeFile(place.at('f'), 'x');
    const { actor, fd } = await holder(place);
    const same = await actor.do('open', place.at('f'), O_RDWR, 0);
    await actor.do('flock', fd, 'exclusive');
    await failsWith('EAGAIN', () => actor.do('flock', same, 'shared'), 'another open file of this process');
    await actor.do('flock', fd, 'shared');
    await actor.do('flock', same, 'shared');
    await failsWith('EAGAIN', () => actor.do('flock', fd, 'exclusive'), 'two share it');
    await actor.do('flock', same, 'none');
    await actor.do('flock', fd, 'exclusive');
    await actor.do('flock', fd, 'none');
    await actor.do('flock', same, 'exclusive');
  },

  'flock is passed on to children, and ends with the last descriptor': async (place) => {
    await writeFile(place.at('f'), 'x');
    const file = await open(place.at('f'), 'r+');
    const other = await holder(place);
    await flock(file.fd, 'exclusive');
    const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', file.fd] });
    await file.close();
    await failsWith('EAGAIN', () => other.actor.do('flock', other.fd, 'shared'), 'the child holds it');
    child.stdin?.end();
    await other.actor.do('flock', other.fd, 'exclusive', { wait: true });
  },

  'flock waits, and a process that waits can be killed': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other, third] = [await holder(place), await holder(place), await holder(place)];
    const take = ({ actor, fd }: Holder): Promise<number> =>
      actor.do('flock', fd, 'exclusive', { wait: true });
    await take(one);
    const waiting = take(other);
    const killed = take(third);
    assert(await isPending(waiting, () => one.actor.do('readdir', place.directory)));
    await third.actor.kill('SIGTERM');
    await failsWith('EXITED', () => killed, 'it is gone');
    await one.actor.kill('SIGKILL');
    await waiting;
  },

  'flock and fcntl locks do not see each other': async (place) => {
    await writeFile(place.at('f'), 'x');
    const [one, other] = [await holder(place), await holder(place)];
    await one.actor.do('flock', one.fd, 'exclusive');
    await set(other, range('write'));
  },
};
