import t from 'tap';
import type { NodeId } from '../../lib/base/brand.ts';
import { BackingTable, NO_BACKING } from '../../lib/fuse/backing.ts';
import { createLogger } from '../../lib/telemetry/log.ts';

const logger = createLogger({ level: 'silent' });
const node = 5n as NodeId;

function registrar(): { live: Set<number>; register(fd: number): number; unregister(id: number): void } {
  const live = new Set<number>();
  let next = 1;
  return {
    live,
    register(fd) {
      if (fd < 0) throw new Error('refused');
      live.add(next);
      return next++;
    },
    unregister: (id) => void live.delete(id),
  };
}

t.test('backing registers a node once and lets go after its last close', async (t) => {
  const kernel = registrar();
  const table = new BackingTable({ registrar: kernel, logger });
  const id = table.open(node, 3);
  t.equal(table.open(node, 4), id);
  t.equal(table.open(node, undefined), id, 'an open without a file shares the mode');
  t.equal(kernel.live.size, 1);
  table.close(node);
  table.close(node);
  t.equal(kernel.live.size, 1);
  table.close(node);
  t.equal(kernel.live.size, 0);
  t.not(table.open(node, 3), id, 'a later open registers anew');
});

t.test('backing keeps a node served while any served open lives', async (t) => {
  const kernel = registrar();
  const table = new BackingTable({ registrar: kernel, logger });
  t.equal(table.open(node, undefined), NO_BACKING);
  t.equal(table.open(node, 3), NO_BACKING);
  table.close(node);
  t.equal(table.open(node, 3), NO_BACKING);
  table.close(node);
  table.close(node);
  t.not(table.open(node, 3), NO_BACKING);
});

t.test('backing serves a file that the kernel refuses', async (t) => {
  const table = new BackingTable({ registrar: registrar(), logger });
  t.equal(table.open(node, -1), NO_BACKING);
  t.equal(new BackingTable({ registrar: undefined, logger }).open(node, 3), NO_BACKING);
});

t.test('backing insists on balance', async (t) => {
  const table = new BackingTable({ registrar: registrar(), logger });
  t.throws(() => table.close(node), /was open/);
});
