/** An origin with tokens and access lists: what each principal sees of it, and what is counted. */
import fs from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { originOptions, temporaryDirectory } from './origin-fixture.ts';

const tokens = ['research:read', 'research:admin', 'ops:admin'].map((text) => {
  const [tenant = '', role = ''] = text.split(':');
  return { tenant, role, token: `token-of-${tenant}-${role}` };
});

t.test('an origin shows and does for each principal what the lists allow', async (t) => {
  const directory = await temporaryDirectory(t);
  const tokensFile = path.join(directory, 'tokens');
  await fs.writeFile(tokensFile, JSON.stringify(tokens), { mode: 0o600 });
  const metrics = createMetrics();
  const origin = await startOrigin(
    originOptions({
      dataDirectory: path.join(directory, 'data'),
      exports: [
        { name: 'open', url: 'memory://open' },
        { name: 'listed', url: 'memory://listed' },
      ],
      credentials: { tokens: tokensFile },
      access: { listed: [{ tenant: 'ops', role: 'write' }] },
      metrics,
    }),
  );
  t.teardown(() => origin.close());
  const connect = async (tenant: string, role: string) => {
    const tokenFile = path.join(directory, `${tenant}-${role}`);
    await fs.writeFile(tokenFile, `token-of-${tenant}-${role}`, { mode: 0o600 });
    const client = createOriginClient({
      address: origin.address,
      credentials: { tokenFile },
      clock: systemClock,
      deadlineMs: 10_000,
    });
    t.teardown(() => client.close());
    const inspect = async (exportName: string): Promise<void> => {
      const keys = client.inspectKeys({ exportName, prefix: '', keysMax: 1 });
      while ((await keys.next()).done !== true);
    };
    return { client, inspect };
  };
  const reader = await connect('research', 'read');
  const research = await connect('research', 'admin');
  const ops = await connect('ops', 'admin');

  const shown = async ({ client }: typeof reader) =>
    (await client.getOriginStatus({})).exports.map(({ name }) => name);
  t.same(await shown(reader), ['open']);
  t.same(await shown(research), ['open']);
  t.same(await shown(ops), ['open', 'listed']);

  await reader.client.getUsage({ exportName: 'open' });
  await t.rejects(reader.inspect('open'), {
    code: 'denied',
    message: /needs the role admin on the export open/,
  });
  await research.inspect('open');
  await t.rejects(research.client.getUsage({ exportName: 'listed' }), {
    code: 'denied',
    message: /research has no access to the export listed/,
    hint: /--allow listed=research:read/,
  });
  await ops.client.getUsage({ exportName: 'listed' });
  await t.rejects(ops.inspect('listed'), {
    code: 'denied',
    message: /ops has write/,
    hint: /access list of listed/,
  });
  await t.rejects(research.client.getUsage({ exportName: 'absent' }), {
    code: 'not-found',
    hint: 'this origin serves open',
  });
  await t.rejects((await connect('nobody', 'admin')).client.getOriginStatus({}), {
    code: 'denied',
    message: /does not know the token/,
  });
  t.match(await metrics.registry.metrics(), /perigee_origin_refusals_total\{reason="role"\} 2\n/);
  t.match(await metrics.registry.metrics(), /perigee_origin_refusals_total\{reason="tenant"\} 1\n/);
  t.match(await metrics.registry.metrics(), /perigee_origin_refusals_total\{reason="token"\} 1\n/);
});
