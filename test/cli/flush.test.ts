import t from 'tap';
import { FakeControl, fakeUnconverged, type FakeWorld, fakeWorld } from './fakes.ts';

function worldWithMount(terminal = false): FakeWorld & { readonly control: FakeControl } {
  const world = fakeWorld({ terminal });
  const control = new FakeControl('/m');
  world.runtime.controls.set('/m', control);
  return { ...world, control };
}

const OPEN = { path: 'log', sizeBytes: 10, ageMs: 0, state: 'open', sentBytes: 0 } as const;
const FAILING = {
  path: 'big\n.pt',
  sizeBytes: 4096,
  ageMs: 9_000,
  state: 'failing',
  sentBytes: 1024,
  failure: 'the store is full',
} as const;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('flush waits for what was closed, and takes open files for what they are', async (t) => {
  const world = worldWithMount();
  world.control.left = [fakeUnconverged({ files: 1, bytes: 10, openFiles: 1, list: [OPEN] })];
  t.equal(await world.run('flush', '/m/a'), 0);
  t.same(world.control.calls, ['flush a', 'unconverged a']);
  t.same(world.out.stdout, ['all is converged but 1 file that is still open']);
});

t.test('drain is done only when nothing is on this host alone', async (t) => {
  const world = worldWithMount();
  world.control.left = [fakeUnconverged({ files: 1, bytes: 10, openFiles: 1, list: [OPEN] })];
  t.equal(await world.run('drain'), 3);
  t.same(world.control.calls, ['flush undefined', 'unconverged undefined']);
  t.same(world.out.stdout, ['left: 1 file, 10 B', '  log: open']);
  world.control.left = [fakeUnconverged()];
  t.equal(await world.run('drain', '--json'), 0);
  t.match(JSON.parse(world.out.stdout.at(-1)!), { done: true, files: 0 });
});

t.test('flush ends with its time, and tells what fails and why', async (t) => {
  const world = worldWithMount(true);
  const left = { files: 1, bytes: 4096, sentBytes: 1024, failing: 1, oldestMs: 9_000, list: [FAILING] };
  world.control.left = [fakeUnconverged(left)];
  world.control.flushed = new Promise(() => undefined);
  const ended = world.run('flush', '--timeout', '2s');
  for (let half = 0; half < 4; half++) {
    await turn();
    world.clock.pass(500);
  }
  t.equal(await ended, 3);
  t.equal(world.control.calls.filter((call) => call.startsWith('unconverged')).length, 4);
  t.match(world.out.drawn[0], '1 file left, 3 KiB to send, the oldest waits for 9 seconds, 1 failing');
  t.same(world.out.stdout, ['left: 1 file, 4 KiB', '  "big\\n.pt": failing: the store is full']);
});

t.test('flush tells what went wrong with the mount, and refuses times that are none', async (t) => {
  const world = worldWithMount();
  world.control.flushed = Promise.reject(new Error('gone'));
  world.control.flushed.catch(() => undefined);
  t.equal(await world.run('flush'), 1);
  t.match(world.out.stderr.join('\n'), /gone/);
  t.equal(await world.run('drain', '--timeout', 'soon'), 2);
});
