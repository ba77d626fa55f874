/** Which signals end a wait, on a clock of the test's own. */
import t from 'tap';
import type { NodeId } from '../../lib/base/brand.ts';
import { Interruptions } from '../../lib/fuse/interruptions.ts';
import { Opcode } from '../../lib/fuse/opcodes.ts';
import { Request } from '../../lib/fuse/request.ts';
import { ManualClock } from '../vfs/manual-clock.ts';

const THREAD = 42;

function bench() {
  const clock = new ManualClock();
  const dying = new Set<number>();
  const answered = new Set<Request>();
  const interruptions = new Interruptions({
    clock,
    isDying: (thread) => dying.has(thread),
    isWaiting: (request) => !answered.has(request),
  });
  const request = (opcode: number): Request =>
    new Request(
      { unique: 1n, opcode, node: 1n as NodeId, uid: 0, gid: 0, pid: THREAD, end: 0 },
      undefined as never,
      0,
    );
  return { clock, dying, answered, interruptions, request };
}

t.test('a signal that the program handles does not end its request', async (t) => {
  const { clock, interruptions, request } = bench();
  const open = request(Opcode.OPEN);
  interruptions.interrupt(open);
  clock.advance(60_000);
  t.equal(open.aborted, false);
});

t.test('a program that is being killed waits no longer, whenever that happens', async (t) => {
  const { clock, dying, interruptions, request } = bench();
  const first = request(Opcode.OPEN);
  interruptions.interrupt(first);
  dying.add(THREAD);
  clock.advance(1_000);
  t.equal(first.aborted, true, 'the kernel does not tell of a second signal');
  const second = request(Opcode.READ);
  interruptions.interrupt(second);
  t.equal(second.aborted, true);
});

t.test('a wait for a lock ends with any signal', async (t) => {
  const { interruptions, request } = bench();
  const lock = request(Opcode.SETLKW);
  interruptions.interrupt(lock);
  t.equal(lock.aborted, true);
});

t.test('nothing is watched that has been answered, and nothing after the end', async (t) => {
  const { clock, answered, interruptions, request } = bench();
  const open = request(Opcode.OPEN);
  interruptions.interrupt(open);
  answered.add(open);
  clock.advance(1_000);
  t.equal(clock.waiting, 0);
  interruptions.interrupt(request(Opcode.OPEN));
  interruptions.close();
  t.equal(clock.waiting, 0);
});
