import t from 'tap';
import { FakeControl, fakeWorld } from './fakes.ts';

t.test('a command without a path takes the only mount that answers', async (t) => {
  const world = fakeWorld();
  const alive = new FakeControl('/alive');
  world.runtime.controls.set('/alive', alive);
  world.runtime.mounts = () => Promise.resolve(['/dead', '/alive']);
  t.equal(await world.run('cache', 'list'), 0);
  t.same(alive.calls, ['list undefined']);

  world.runtime.controls.set('/second', new FakeControl('/second'));
  world.runtime.mounts = () => Promise.resolve(['/dead', '/alive', '/second']);
  t.equal(await world.run('cache', 'list'), 2);
  t.match(world.complaint(), { error: 'there are several mounts', hint: /one of \/alive, \/second$/ });
});
