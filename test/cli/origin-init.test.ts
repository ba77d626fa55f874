/** What `perigee origin init` and `certify` ask for and print; lib/daemon makes the files. */
import os from 'node:os';
import t from 'tap';
import { fakeWorld } from './fakes.ts';

t.test('origin init asks for everything at once and prints the commands to go on with', async (t) => {
  const world = fakeWorld();
  const words =
    'origin init --data d --host o.example --host 10.0.0.1 --satellite g1 --satellite g2 --admin al --tenant t1 --role read --valid 30d';
  t.equal(await world.run(...words.split(' ')), 0);
  t.same(world.runtime.asked, [
    [
      'issueCertificates',
      {
        directory: '/work dir/d/tls',
        isFirst: true,
        replace: false,
        hosts: ['o.example', '10.0.0.1'],
        clients: [
          { host: 'g1', role: 'read', file: 'satellite-g1' },
          { host: 'g2', role: 'read', file: 'satellite-g2' },
          { host: 'al', role: 'admin', file: 'admin-al' },
        ],
        tenant: 't1',
        validMs: 30 * 24 * 3_600_000,
      },
    ],
  ]);
  const text = world.out.stdout.join('\n');
  t.match(text, 'made: /made');
  t.match(text, /^ {2}perigee origin --data \/work dir\/d --listen o\.example:7420 .*--tls-ca .*ca\.pem/m);
  t.match(
    text,
    /^ {2}perigee mount o\.example:7420\/datasets .*--tls-cert \/etc\/perigee\/tls\/satellite-g1\.pem/m,
  );
  t.match(text, /^ {2}perigee doctor --origin o\.example:7420 .*admin-al-key\.pem/m);
  t.match(text, 'ca-key.pem to yourself');
});

t.test('origin init without a name takes that of this host', async (t) => {
  const world = fakeWorld({ env: { PERIGEE_DATA: '/d' } });
  t.equal(await world.run('origin', 'init'), 0);
  t.match(world.runtime.asked, [
    ['issueCertificates', { hosts: [os.hostname()], clients: [], tenant: 'default' }],
  ]);
});

t.test('origin certify issues what is named, and refuses nobody and nonsense', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('origin', 'certify', '--data', '/d', '--satellite', 'g3', '--replace'), 0);
  t.match(world.runtime.asked, [
    [
      'issueCertificates',
      {
        isFirst: false,
        replace: true,
        hosts: [],
        clients: [{ host: 'g3', role: 'write', file: 'satellite-g3' }],
      },
    ],
  ]);
  const cases: [string[], string][] = [
    [[], 'nobody is named'],
    [['--satellite', '../x'], 'has no valid name in "../x"'],
    [['--satellite', 'a', '--tenant', 'a/b'], '"a/b" is no name of a tenant'],
    [['--satellite', 'a', '--role', 'root'], '"root" is none of read, write, admin'],
    [['--satellite', 'a', '--valid', '1s'], 'is less than 1m'],
  ];
  for (const [words, error] of cases) {
    const other = fakeWorld();
    t.equal(await other.run('origin', 'certify', '--data', '/d', ...words), 2, words.join(' '));
    t.ok(other.complaint().error?.includes(error), `${other.complaint().error} has ${error}`);
    t.same(other.runtime.asked, []);
  }
});
