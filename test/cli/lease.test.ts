import t from 'tap';
import { fakeWorld } from './fakes.ts';

const ORIGIN = ['--origin', '10.0.0.1:7420'] as const;

t.test('session list shows who is there, what is owed, and who is waited for', async (t) => {
  const { run, out, runtime } = fakeWorld({ env: {} });
  t.equal(await run('session', 'list', '--export', 'datasets', ...ORIGIN), 0);
  t.match(runtime.asked, [['leases', { origin: '10.0.0.1:7420' }], ['sessions', 'datasets'], ['close']]);
  t.same(out.stdout, [
    'SESSION   STATE  EXPIRES     LEASES  OWES  AGE       TENANT  EXPORT    HOST',
    '0123abcd  away   12 seconds  3       1     1 minute  local   datasets  gpu-1 (10.0.0.7)',
    "changes wait for 2 sessions of the origin's last life, 9 seconds at most",
  ]);
  const json = fakeWorld({ env: {} });
  t.equal(await json.run('session', 'list', '--json', ...ORIGIN), 0);
  t.match(JSON.parse(json.out.stdout.join('')), {
    sessions: [{ labels: { rack: '7' } }],
    sessionsAwaited: 2,
  });
});

t.test('lease list shows what concerns a path', async (t) => {
  const { run, out, runtime } = fakeWorld({ env: {} });
  t.equal(await run('lease', 'list', '/train/a/', '--limit', '5', ...ORIGIN), 0);
  t.match(runtime.asked[1], ['leases', { path: 'train/a', leasesMax: 5 }]);
  t.same(out.stdout, [
    'SESSION   COVERS   AGE       HOST   PATH',
    '0123abcd  subtree  1 second  gpu-1  /train/a',
  ]);
  t.same(out.stderr, ['there are more than 5; name a path, or a higher --limit']);
});

t.test('lease list refuses a limit that makes no sense, and an origin that nobody names', async (t) => {
  const limit = fakeWorld({ env: {} });
  t.equal(await limit.run('lease', 'list', '--limit', '0', ...ORIGIN), 2);
  t.match(limit.out.stderr.join('\n'), /write a number from 1 to 10000/);
  t.same(limit.runtime.asked, []);
  const nobody = fakeWorld({ env: {} });
  t.equal(await nobody.run('session', 'list'), 2);
  t.match(nobody.out.stderr.join('\n'), /add --origin/);
});
