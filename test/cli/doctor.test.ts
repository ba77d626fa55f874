import path from 'node:path';
import t from 'tap';
import { type Finding } from '../../lib/cli/runtime.ts';
import { fakeWorld } from './fakes.ts';

const findings: Finding[] = [
  { level: 'ok', subject: 'kernel', text: '6.18' },
  { level: 'warning', subject: 'cache', text: 'on overlayfs', hint: 'use ext4 or xfs' },
];

t.test('doctor prints findings with what to do', async (t) => {
  const world = fakeWorld();
  world.runtime.findings = findings;
  t.equal(await world.run('doctor'), 0);
  t.same(world.out.stdout, [
    'ok      kernel: 6.18',
    'warning cache: on overlayfs',
    '        hint: use ext4 or xfs',
  ]);
  t.same(world.runtime.asked, [
    [
      'doctor',
      {
        origin: undefined,
        credentials: {
          tlsCert: undefined,
          tlsKey: undefined,
          tlsCa: undefined,
          tokenFile: undefined,
          insecure: false,
        },
        exportName: undefined,
        cacheDirectory: undefined,
        storeUrl: undefined,
        keysMax: 10_000,
      },
    ],
  ]);
});

t.test('doctor has failed when something a mount needs is missing', async (t) => {
  const world = fakeWorld();
  world.runtime.findings = [...findings, { level: 'failure', subject: 'fuse', text: 'no /dev/fuse' }];
  t.equal(await world.run('doctor', '--json'), 1);
  t.same(JSON.parse(world.out.stdout.join('')), world.runtime.findings);
});

t.test('doctor hands over what to look at', async (t) => {
  const world = fakeWorld();
  const words =
    'doctor --origin [::1]:7420 --export data --cache c --store s3://b/p --keys-max 5 --tls-ca ca.pem';
  t.equal(await world.run(...words.split(' ')), 0);
  t.same(world.runtime.asked[0]?.[1], {
    origin: '[::1]:7420',
    credentials: {
      tlsCert: undefined,
      tlsKey: undefined,
      tlsCa: '/work dir/ca.pem',
      tokenFile: undefined,
      insecure: false,
    },
    exportName: 'data',
    cacheDirectory: '/work dir/c',
    storeUrl: 's3://b/p',
    keysMax: 5,
  });
});

t.test('doctor refuses wrong values', async (t) => {
  const cases: [string[], string][] = [
    [['--origin', 'host'], '--origin: "host" has no port'],
    [['--origin', 'host:0'], 'has port 0'],
    [['--export', 'a/b'], '--export: "a/b" is refused: an export name has'],
    [['--store', 'gs://b'], '--store: "gs://b" is refused: "gs://b" is of the unknown kind gs'],
    [['--export', 'a'], '--export needs an origin to ask'],
    [['--keys-max', '0'], '--keys-max: "0" is not a whole number from 1'],
    [['--keys-max', '-1'], '--keys-max: "-1" is not a whole number'],
  ];
  for (const [words, error] of cases) {
    const world = fakeWorld();
    t.equal(await world.run('doctor', ...words), 2);
    t.ok(world.complaint().error?.includes(error), `${world.complaint().error} has ${error}`);
    t.type(world.complaint().hint, 'string');
  }
});

t.test('doctor finds what it shows the origin where the mounts of the host find it', async (t) => {
  const directory = t.testdir({
    f: 'mount:\n  cache: /not-for-doctor\n  tls-cert: /c.pem\n  tls-key: /k.pem\n  tls-ca: /ca.pem\n',
  });
  const configFile = path.join(directory, 'f');
  const world = fakeWorld({ configFile, env: { PERIGEE_TLS_KEY: '/other-key.pem' } });
  t.equal(await world.run('doctor', '--origin', 'h:1', '--tls-cert', '/flag.pem'), 0);
  t.match(world.runtime.asked[0]?.[1], {
    cacheDirectory: undefined,
    credentials: { tlsCert: '/flag.pem', tlsKey: '/other-key.pem', tlsCa: '/ca.pem' },
  });
  const named = fakeWorld();
  t.equal(await named.run('doctor', '--origin', 'h:1', '--config', configFile), 0);
  t.match(named.runtime.asked[0]?.[1], { credentials: { tlsCert: '/c.pem' } });
});
