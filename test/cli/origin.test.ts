import path from 'node:path';
import t from 'tap';
import { fakeWorld } from './fakes.ts';

t.test('origin serves the exports it is given until it is asked to stop', async (t) => {
  const world = fakeWorld();
  const exit = world.run(
    ...'origin --data data --export a=file:///srv/a --export b=s3://bucket/p?region=eu --metrics [::1]:0'.split(
      ' ',
    ),
  );
  await world.out.printed('ready: 127.0.0.1:7420');
  t.same(world.runtime.asked, [
    [
      'origin',
      {
        dataDirectory: '/work dir/data',
        listen: { host: '127.0.0.1', port: 7420 },
        exports: [
          { name: 'a', url: 'file:///srv/a' },
          { name: 'b', url: 's3://bucket/p?region=eu' },
        ],
        insecure: false,
        credentials: { tlsCert: undefined, tlsKey: undefined, tlsCa: undefined, tokens: undefined },
        access: {},
        leases: { termMs: 20_000, quietMs: 10_000 },
        metrics: { host: '::1', port: 0 },
        logLevel: 'info',
      },
    ],
  ]);
  world.signal();
  t.equal(await exit, 0);
});

t.test('origin reads everything from a file', async (t) => {
  const configFile = path.join(
    t.testdir({
      f: 'origin:\n  data: /d\n  listen: 10.0.0.1:1\n  insecure: true\n  log-level: warn\n  exports:\n    a: s3://x\n    b: file:///y\nmount:\n',
    }),
    'f',
  );
  const world = fakeWorld({ configFile });
  const exit = world.run('origin');
  await world.out.printed('ready:');
  t.match(world.runtime.asked[0]?.[1], {
    dataDirectory: '/d',
    listen: { host: '10.0.0.1', port: 1 },
    exports: [
      { name: 'a', url: 's3://x' },
      { name: 'b', url: 'file:///y' },
    ],
    insecure: true,
    logLevel: 'warn',
  });
  world.signal();
  t.equal(await exit, 0);
});

t.test(
  'origin takes files of credentials and access lists from flags, the environment and a file',
  async (t) => {
    const configFile = path.join(
      t.testdir({
        f: 'origin:\n  tls-ca: /etc/ca.pem\n  access:\n    a:\n      - {tenant: t1, role: read}\n      - {tenant: "*", role: write}\n',
      }),
      'f',
    );
    const flags = '--data /d --export a=s3://x --listen 10.0.0.1:1 --tls-cert c.pem --tls-key k.pem'.split(
      ' ',
    );
    const world = fakeWorld({ configFile, env: { PERIGEE_TOKENS: '/etc/tokens' } });
    const exit = world.run('origin', ...flags);
    await world.out.printed('ready:');
    t.match(world.runtime.asked[0]?.[1], {
      credentials: {
        tlsCert: '/work dir/c.pem',
        tlsKey: '/work dir/k.pem',
        tlsCa: '/etc/ca.pem',
        tokens: '/etc/tokens',
      },
      access: {
        a: [
          { tenant: 't1', role: 'read' },
          { tenant: '*', role: 'write' },
        ],
      },
    });
    world.signal();
    t.equal(await exit, 0);

    const other = fakeWorld({ configFile });
    const otherExit = other.run('origin', ...flags, '--allow', 'a=t1:admin', '--allow', 'a=*:read');
    await other.out.printed('ready:');
    t.match(other.runtime.asked[0]?.[1], {
      access: {
        a: [
          { tenant: 't1', role: 'admin' },
          { tenant: '*', role: 'read' },
        ],
      },
    });
    other.signal();
    t.equal(await otherExit, 0);
  },
);

t.test('origin takes exports from the environment, separated by white space', async (t) => {
  const world = fakeWorld({
    env: { PERIGEE_DATA: '/d', PERIGEE_EXPORTS: 'a=s3://x?endpoint=http://h:1,2  b=file:///y' },
  });
  const exit = world.run('origin');
  await world.out.printed('ready:');
  t.match(world.runtime.asked[0]?.[1], {
    exports: [
      { name: 'a', url: 's3://x?endpoint=http://h:1,2' },
      { name: 'b', url: 'file:///y' },
    ],
  });
  world.signal();
  t.equal(await exit, 0);
});

t.test('origin refuses wrong exports and addresses', async (t) => {
  const cases: [string[], string, string][] = [
    [[], '--export is missing', 'PERIGEE_EXPORTS'],
    [['--export', 'a'], '--export: "a" is not NAME=URL', 'NAME=URL'],
    [['--export', '=s3://b'], 'is not NAME=URL', 'NAME=URL'],
    [['--export', 'a b=s3://b'], 'an export name has 1 to 64', 'NAME=URL'],
    [['--export', '../a=s3://b'], 'an export name has 1 to 64', 'NAME=URL'],
    [['--export', 'a=s3://x', '--export', 'a=s3://y'], 'gives the export a twice', 'of its own'],
    [['--export', 'a=/srv'], '"/srv" is not a URL', 'file:///dir'],
    [['--export', 'a=s4://b'], 'of the unknown kind s4', 'did you mean s3?'],
    [['--export', 'a=https://b/c'], 'of the unknown kind https', 's3://bucket/prefix'],
    [['--export', 'a=file://srv/data'], 'names a host instead of a directory', 'file:///dir'],
    [['--export', 'a=s3:///prefix'], 'names no bucket', 's3://bucket'],
    [['--export', 'a=s3://x', '--listen', '0.0.0.0:7420'], '--listen 0.0.0.0 is reached', '--insecure'],
    [['--export', 'a=s3://x', '--listen', '[::]:7420'], '--listen :: is reached', 'perigee origin init'],
    [['--export', 'a=s3://x', '--tls-ca', 'ca'], 'say nothing without --tls-cert', '--tls-key'],
    [['--export', 'a=s3://x', '--tls-cert', 'c', '--tls-key', 'k'], 'does not tell who connects', '--tokens'],
    [['--export', 'a=s3://x', '--allow', 'b=t:read'], '--allow names the export b', 'the exports are a'],
    [['--export', 'a=s3://x', '--allow', 'a=t'], '"a=t" is not EXPORT=TENANT:ROLE', 'EXPORT=TENANT:ROLE'],
    [['--export', 'a=s3://x', '--allow', 'a=t:raed'], 'gives "raed"', 'did you mean read?'],
    [['--export', 'a=s3://x', '--allow', 'a=t/u:read'], 'no valid tenant in "t/u"', 'every tenant'],
    [['--export', 'a=s3://x', '--listen', 'localhost'], '"localhost" has no port', 'host:port'],
    [['--export', 'a=s3://x', '--listen', '[zz]:1'], 'has no valid host in "zz"', 'host:port'],
  ];
  for (const [words, error, hint] of cases) {
    const world = fakeWorld();
    t.equal(await world.run('origin', '--data', 'd', ...words), 2, words.join(' '));
    t.ok(world.complaint().error?.includes(error), `${world.complaint().error} has ${error}`);
    t.ok(world.complaint().hint?.includes(hint), `${world.complaint().hint} has ${hint}`);
  }
});

t.test('origin never repeats credentials that were put into a URL', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('origin', '--data', 'd', '--export', 'a=s3://key:secret@bucket'), 2);
  const text = world.out.stderr.join('\n');
  t.match(text, 'has credentials in it');
  t.notMatch(text, 'secret');
});
