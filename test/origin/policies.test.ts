/** The document of policies at the origin: kept, told to satellites, gone back to. */
import Database from 'better-sqlite3';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
import { startOrigin, type Origin } from '../../lib/origin/origin-server.ts';
import { createOriginClient, type OriginClient } from '../../lib/rpc/origin-client.ts';
import { logger, originOptions, temporaryDirectory } from './origin-fixture.ts';

async function start(
  t: Test,
  dataDirectory: string,
): Promise<{ readonly origin: Origin; readonly client: OriginClient }> {
  const origin = await startOrigin(
    originOptions({
      dataDirectory,
      exports: [
        { name: 'data', url: 'memory://bucket' },
        { name: 'home', url: 'memory://other' },
      ],
    }),
  );
  const client = createOriginClient({ address: origin.address, clock: systemClock, deadlineMs: 10_000 });
  t.teardown(async () => {
    client.close();
    await origin.close();
  });
  return { origin, client };
}

function documentOf(policies: Record<string, string>): string {
  const lines = Object.entries(policies).map(([name, rest]) => `  - { name: ${name}, ${rest} }\n`);
  return `apiVersion: perigee/v1\npolicies:\n${lines.join('')}`;
}

const pin = 'match: { prefix: a/ }, cache: { pin: true }';

t.test('origin keeps every version of the policies over restarts, with who made it', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const { origin, client } = await start(t, dataDirectory);
  t.match(await client.getPolicies({ version: 0n }), {
    version: { version: 0n },
    document: /policies: \[\]/,
  });
  const first = documentOf({ one: pin, two: pin.replace('a/', 'b/') });
  t.match(await client.applyPolicies({ document: first }), {
    version: { version: 1n, policies: 2 },
    unchanged: false,
  });
  t.match(await client.applyPolicies({ document: first }), { version: { version: 1n }, unchanged: true });
  t.match(await client.deletePolicy({ name: 'one' }), {
    version: { version: 2n, action: 'delete', subject: 'one', policies: 1 },
  });
  client.close();
  await origin.close();

  const { client: again } = await start(t, dataDirectory);
  t.notMatch((await again.getPolicies({ version: 0n })).document, /one/);
  t.match(await again.rollbackPolicies({ version: 1n }), {
    version: { version: 3n, action: 'rollback', subject: '1' },
  });
  t.equal((await again.getPolicies({ version: 0n })).document, first);
  const { versions, more } = await again.getPolicyHistory({ versionsMax: 2 });
  t.equal(more, true);
  t.match(versions, [
    { version: 3n, action: 'rollback', tenant: 'local', host: /./ },
    { version: 2n, action: 'delete' },
  ]);
  t.match(
    await again.rollbackPolicies({ version: 0n }),
    { version: { version: 4n, policies: 0 } },
    'back to none',
  );
});

t.test('origin starts with a kept document that it refuses, and none holds', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const { origin, client } = await start(t, dataDirectory);
  await client.applyPolicies({ document: documentOf({ one: pin }) });
  client.close();
  await origin.close();
  const index = new Database(path.join(dataDirectory, 'index.sqlite'));
  index.prepare('update policies set document = ?').run('apiVersion: perigee/v0');
  index.close();

  const again = await start(t, dataDirectory);
  const data = await sets(t, again.origin.address, 'data');
  t.equal(await data.next(), '1: ');
  t.equal(
    (await again.client.getPolicies({ version: 0n })).document,
    'apiVersion: perigee/v0',
    'it can be looked at',
  );
  await again.client.applyPolicies({ document: documentOf({ two: pin }) });
  t.equal(await data.next(), '2: two');
});

t.test('origin refuses a wrong document whole, with places, and keeps what it has', async (t) => {
  const { client } = await start(t, await temporaryDirectory(t));
  await client.applyPolicies({ document: documentOf({ one: pin }) });
  const wrong = documentOf({ one: pin, two: 'match: {}, cache: { ttl: soon }' });
  await t.rejects(client.applyPolicies({ document: wrong }), {
    code: 'invalid',
    message: /\n4:\d+: .*"soon" is not a duration/,
  });
  await t.rejects(client.deletePolicy({ name: 'on' }), { code: 'not-found', hint: 'did you mean one?' });
  await t.rejects(client.rollbackPolicies({ version: 7n }), { code: 'not-found', hint: /policy history/ });
  await t.rejects(client.applyPolicies({ document: `# ${'x'.repeat(800_000)}` }), {
    code: 'invalid',
    message: /more than 786432 bytes/,
  });
  t.equal((await client.getPolicies({ version: 0n })).version?.version, 1n);
});

t.test('origin warns of exports that it does not serve, and changes nothing when only asked', async (t) => {
  const { client } = await start(t, await temporaryDirectory(t));
  const document = documentOf({ one: 'match: { export: dato }, cache: { pin: true }' });
  const { warnings } = await client.applyPolicies({ document, dryRun: true });
  t.match(warnings, [{ message: /one: this origin serves no export dato/, hint: 'did you mean data?' }]);
  t.equal((await client.getPolicies({ version: 0n })).version?.version, 0n);
});

/** Sets as a satellite's stream brings them: the version, and the names of the policies. */
async function sets(t: Test, address: string, exportName: string) {
  const { openStream, remote } = await openOriginNames({
    address,
    exportName,
    host: 'test',
    clock: systemClock,
    logger,
  });
  t.teardown(() => remote.close());
  const told: string[] = [];
  let wake = (): void => undefined;
  const kinds: string[] = [];
  const stream = openStream(
    {
      opened: () => stream.send({ kind: 'hello', host: 'test', labels: {}, earlier: undefined }),
      message: ({ kind }) => void kinds.push(kind),
      broken: () => void kinds.push('broken'),
    },
    ({ version, document }) => {
      t.same(kinds, ['welcome'], 'the welcome comes first');
      const { policies } = JSON.parse(document) as {
        readonly policies: readonly { readonly name: string }[];
      };
      told.push(`${version}: ${policies.map(({ name }) => name).join()}`);
      wake();
    },
  );
  return {
    async next(): Promise<string> {
      while (told.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return told.shift()!;
    },
    end: () => stream.end(),
  };
}

t.test(
  'a session is told the policies of its export behind its welcome, and after every change',
  async (t) => {
    const { origin, client } = await start(t, await temporaryDirectory(t));
    const both = { one: pin, far: 'match: { export: home }, cache: { pin: true }' };
    await client.applyPolicies({ document: documentOf(both) });
    const data = await sets(t, origin.address, 'data');
    t.equal(await data.next(), '1: one', 'nothing of another export');
    const home = await sets(t, origin.address, 'home');
    t.equal(await home.next(), '1: one,far');
    await client.applyPolicies({ document: documentOf({ ...both, two: pin.replace('a/', 'b/') }) });
    t.equal(await data.next(), '2: one,two');
    t.equal(await home.next(), '2: one,far,two');
    await client.deletePolicy({ name: 'one' });
    t.equal(await data.next(), '3: two');
    data.end();
    await client.deletePolicy({ name: 'far' });
    await home.next();
    t.equal(await home.next(), '4: two');
  },
);
