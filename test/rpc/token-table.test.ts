import { createHash } from 'node:crypto';
import t from 'tap';
import { TokenTable } from '../../lib/rpc/token-table.ts';

const sha256 = (token: string) => createHash('sha256').update(token).digest('hex');
const long = 'a-token-of-24-characters';

t.test('tokens are found as they are or by their digest', async (t) => {
  const table = new TokenTable(`
- token: ${long}
  tenant: research
  host: gpu-1
  role: read
- {sha256: ${sha256('another-token-of-ops').toUpperCase()}, tenant: ops, role: admin}
`);
  t.same(table.find(long), { tenant: 'research', host: 'gpu-1', role: 'read' });
  t.same(table.find('another-token-of-ops'), { tenant: 'ops', host: undefined, role: 'admin' });
  for (const wrong of ['', long.slice(1), `${long} `, sha256(long), sha256('another-token-of-ops')]) {
    t.equal(table.find(wrong), undefined, JSON.stringify(wrong));
  }
  t.equal(new TokenTable('[]').find(long), undefined);
});

t.test('a file of tokens that makes no sense is refused without repeating a token', async (t) => {
  const entry = `token: ${long}, tenant: t, role: read`;
  const cases: Record<string, RegExp> = {
    '': /not a list/,
    'a: 1': /not a list/,
    [`- {${entry}`]: /not YAML/,
    [`- {token: short, tenant: t, role: read}`]: /entry 1 has a token of less than 16 characters/,
    [`- {token: "${long} ${long}", tenant: t, role: read}`]: /or with spaces/,
    [`- {${entry}, sha256: ${sha256('x')}}`]: /exactly one of token and sha256/,
    '- {tenant: t, role: read}': /exactly one of token and sha256/,
    '- {sha256: abc, tenant: t, role: read}': /no valid sha256/,
    [`- {token: ${long}, tenant: t, role: root}`]: /no valid role/,
    [`- {token: ${long}, tenant: "*", role: read}`]: /no valid tenant/,
    [`- {token: ${long}, tenant: t, role: read, hots: h}`]: /unknown key/,
    [`- {${entry}}\n- {sha256: ${sha256(long)}, tenant: u, role: admin}`]: /entry 2 has the token of another/,
  };
  for (const [text, message] of Object.entries(cases)) {
    t.throws(() => new TokenTable(text), { code: 'usage', message, hint: /tenant: research/ }, text);
    try {
      new TokenTable(text);
    } catch (error) {
      t.notMatch(String((error as Error).message), long.slice(2));
    }
  }
});
