import t from 'tap';
import { PerigeeError } from '../../lib/base/errors.ts';
import { FakeControl, fakeWorld } from './fakes.ts';

class TestError extends PerigeeError<'test'> {
  override readonly layer = 'test';
}

t.test('unmount asks the mount and prints nothing', async (t) => {
  const world = fakeWorld();
  const control = new FakeControl('/mnt/my data');
  world.runtime.controls.set('/mnt/my data', control);
  t.equal(await world.run('unmount', '/mnt/my data/'), 0);
  t.same(control.calls, ['unmount false']);
  t.same([...world.out.stdout, ...world.out.stderr], []);
});

t.test('unmount tells why it cannot, with a hint', async (t) => {
  const world = fakeWorld();
  world.runtime.failure = new TestError('test', 'no perigee mount answers at /m', { hint: 'use --force' });
  t.equal(await world.run('unmount', '/m'), 1);
  t.same(world.complaint(), {
    error: 'perigee: unmount: no perigee mount answers at /m',
    hint: 'hint: use --force',
  });
  t.same(world.runtime.asked, []);
});

t.test('unmount --force detaches a mount whose process is gone, or does not manage', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('unmount', '--force', '/m'), 0);
  t.same(world.runtime.asked, [['forceUnmount', '/m']]);

  const second = fakeWorld();
  const control = new FakeControl('/m');
  control.failure = new Error('stuck');
  second.runtime.controls.set('/m', control);
  t.equal(await second.run('unmount', '--force', '/m'), 0);
  t.same(control.calls, ['unmount true']);
  t.same(second.runtime.asked, [['forceUnmount', '/m']]);
});

t.test('unmount --force gives a mount that hangs a few seconds, no more', async (t) => {
  const world = fakeWorld();
  const control = new FakeControl('/m');
  control.stuck = true;
  world.runtime.controls.set('/m', control);
  const done = world.run('unmount', '--force', '/m');
  while (control.calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
  world.clock.pass(4_999);
  t.same(world.runtime.asked, []);
  world.clock.pass(1);
  t.equal(await done, 0);
  t.same(world.runtime.asked, [['forceUnmount', '/m']]);
});

t.test('unmount --force of a mount that answers needs no more', async (t) => {
  const world = fakeWorld();
  const control = new FakeControl('/m');
  world.runtime.controls.set('/m', control);
  t.equal(await world.run('unmount', '--force', '/m'), 0);
  t.same(control.calls, ['unmount true']);
  t.same(world.runtime.asked, []);
});
