/** Locks on files: small cases by hand, and any sequence against a model that knows every byte. */
import fc from 'fast-check';
import t from 'tap';
import { Errno } from '../../lib/fuse/errno.ts';
import { FileLocks } from '../../lib/fuse/file-locks.ts';
import { LOCK_TO_END, type LockFamily, type LockRequest } from '../../lib/fuse/write-operations.ts';

const never = new AbortController().signal;
const FILE = 7n;

function lock(owner: number, kind: 'read' | 'write', range: readonly [number, number?] = [0]): LockRequest {
  const [start, end] = range;
  return {
    family: 'posix',
    owner: BigInt(owner),
    kind,
    pid: owner,
    start: BigInt(start),
    end: end === undefined ? LOCK_TO_END : BigInt(end),
  };
}

const flock = (owner: number, kind: 'read' | 'write'): LockRequest => ({
  ...lock(owner, kind),
  family: 'flock',
});
const now = (locks: FileLocks, request: LockRequest): Promise<void> =>
  locks.take(FILE, { ...request, wait: false }, never);
const whole = (owner: number, family: LockFamily = 'posix') => ({
  family,
  owner: BigInt(owner),
  start: 0n,
  end: LOCK_TO_END,
});
const errno = (errno: number) => ({ errno }) as unknown as Error;

t.test('file locks exclude each other by kind, range, family and file', async (t) => {
  const locks = new FileLocks();
  await now(locks, lock(1, 'read', [0, 9]));
  await now(locks, lock(2, 'read', [5, 14]));
  await t.rejects(now(locks, lock(3, 'write', [14, 20])), errno(Errno.EAGAIN));
  await now(locks, lock(3, 'write', [15, 20]));
  await now(locks, flock(4, 'write'));
  await locks.take(8n, { ...lock(5, 'write'), wait: false }, never);
  t.same(locks.test(FILE, lock(9, 'write', [12, 30])), {
    ...{ start: 5n, end: 14n, kind: 'read', pid: 2 },
    owner: 2n,
  });
  t.equal(locks.test(FILE, lock(9, 'write', [21])), undefined);
  t.equal(locks.test(FILE, lock(3, 'write', [15, 20])), undefined, 'one does not stand in its own way');
  for (const owner of [1, 2, 3]) locks.giveBack(FILE, whole(owner));
  locks.giveBack(FILE, whole(4, 'flock'));
  locks.giveBack(8n, whole(5));
  t.equal(locks.size, 0);
});

t.test('file locks wait in order, end when interrupted, and leave nothing', async (t) => {
  const locks = new FileLocks();
  const order: string[] = [];
  const wait = (owner: number, kind: 'read' | 'write', signal = never): Promise<void> =>
    locks.take(FILE, { ...lock(owner, kind), wait: true }, signal).then(() => void order.push(`${owner}`));
  await now(locks, lock(1, 'write'));
  const interrupt = new AbortController();
  const second = wait(2, 'write', interrupt.signal);
  const third = wait(3, 'read');
  const fourth = wait(4, 'read');
  const fifth = wait(5, 'write');
  interrupt.abort(new Error('interrupted'));
  await t.rejects(second, /interrupted/);
  await t.rejects(wait(6, 'read', interrupt.signal), /interrupted/, 'also before it waits');
  locks.giveBack(FILE, whole(1));
  await Promise.all([third, fourth]);
  t.same(order, ['3', '4']);
  locks.giveBack(FILE, whole(3));
  locks.giveBack(FILE, whole(4));
  await fifth;
  locks.giveBack(FILE, whole(5));
  t.equal(locks.size, 0);
});

t.test('file locks that become weaker let others in', async (t) => {
  const locks = new FileLocks();
  await now(locks, lock(1, 'write'));
  const reader = locks.take(FILE, { ...lock(2, 'read', [10, 19]), wait: true }, never);
  await now(locks, lock(1, 'read', [0, 99]));
  await reader;
  const writer = locks.take(FILE, { ...lock(3, 'write', [0, 4]), wait: true }, never);
  locks.giveBack(FILE, { ...whole(1), end: 4n });
  await writer;
  t.equal(locks.test(FILE, lock(9, 'write', [5, 9]))?.pid, 1, 'the rest is held');
});

t.test('file locks refuse to wait in a circle, over files and owners', async (t) => {
  const locks = new FileLocks();
  const at = (file: bigint, owner: number, wait: boolean): Promise<void> =>
    locks.take(file, { ...lock(owner, 'write'), wait }, never);
  for (const owner of [1, 2, 3]) await at(BigInt(owner), owner, false);
  const [oneForTwo, twoForThree] = [at(2n, 1, true), at(3n, 2, true)];
  await t.rejects(at(1n, 3, true), errno(Errno.EDEADLK));
  locks.giveBack(3n, whole(3));
  await twoForThree;
  locks.giveBack(2n, whole(2));
  await oneForTwo;
});

t.test('a flock that changes its kind gives the old one back first', async (t) => {
  const locks = new FileLocks();
  await now(locks, flock(1, 'read'));
  await now(locks, flock(2, 'read'));
  const first = locks.take(FILE, { ...flock(1, 'write'), wait: true }, never);
  await t
    .rejects(
      now(locks, flock(2, 'write')).then(() => first),
      errno(Errno.EAGAIN),
    )
    .catch(() => undefined);
  await first;
  await t.rejects(now(locks, flock(2, 'read')), errno(Errno.EAGAIN), 'the first has it alone');
});

t.test('file locks are refused beyond their limit', async (t) => {
  const locks = new FileLocks({ locksMax: 2 });
  await now(locks, lock(1, 'read', [0, 0]));
  await now(locks, lock(1, 'read', [2, 2]));
  await t.rejects(now(locks, lock(1, 'read', [4, 4])), errno(Errno.ENOLCK));
  locks.giveBack(FILE, whole(1));
  await now(locks, lock(1, 'read', [4, 4]));
});

t.test('file locks agree with a model of every byte', async (t) => {
  const BYTES = 12;
  const step = fc.record({
    owner: fc.integer({ min: 1, max: 3 }),
    kind: fc.constantFrom('read' as const, 'write' as const, 'none' as const),
    start: fc.nat(BYTES - 1),
    length: fc.integer({ min: 1, max: BYTES }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const locks = new FileLocks();
      /** Of each byte: what each owner holds. */
      const model = Array.from({ length: BYTES }, () => new Map<number, 'read' | 'write'>());
      for (const { owner, kind, start, length } of steps) {
        const end = Math.min(start + length, BYTES) - 1;
        const bytes = model.slice(start, end + 1);
        if (kind === 'none') {
          locks.giveBack(FILE, { ...whole(owner), start: BigInt(start), end: BigInt(end) });
          for (const byte of bytes) byte.delete(owner);
          continue;
        }
        const isFree = bytes.every((byte) =>
          [...byte].every(([other, held]) => other === owner || (held === 'read' && kind === 'read')),
        );
        const isGranted = await now(locks, lock(owner, kind, [start, end])).then(
          () => true,
          () => false,
        );
        if (isGranted !== isFree) throw new Error(`granted ${isGranted}, free ${isFree}`);
        if (isGranted) for (const byte of bytes) byte.set(owner, kind);
      }
      for (let at = 0; at < BYTES; at++)
        for (const kind of ['read', 'write'] as const) {
          const inTheWay = locks.test(FILE, lock(9, kind, [at, at])) !== undefined;
          const held = [...(model[at]?.values() ?? [])];
          const expected = kind === 'write' ? held.length > 0 : held.includes('write');
          if (inTheWay !== expected) throw new Error(`byte ${at} for ${kind}`);
        }
      for (const owner of [1, 2, 3]) locks.giveBack(FILE, whole(owner));
      if (locks.size !== 0) throw new Error('something is left');
    }),
  );
  t.pass('no difference');
});
