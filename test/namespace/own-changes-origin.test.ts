/** Changes by two satellites at one origin: what each sees of its own and of the other's, and what that costs in calls. */
import t from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { nextTurn } from '../../lib/base/clock.ts';
import type { CommittedContent, CreatedFile } from '../../lib/namespace/changes.ts';
import { startFixture } from '../origin/origin-fixture.ts';
import { ROOT } from './fixture.ts';
import { startSatelliteNames } from './satellite-names.ts';

const TURNS_MAX = 20;
const NEW = { mode: 0o644, uid: 1, gid: 2 };
const DIRECTORY = { mode: 0o755, uid: 1, gid: 2 };
const at = (name: string, parent: InodeNumber = ROOT) => ({ parent, name });

function content(text: string, isLast = true): CommittedContent {
  const bytes = Buffer.from(text);
  return {
    sizeBytes: bytes.length,
    upload: '',
    parts: [],
    content: bytes,
    attributes: { mode: 0o640, uid: 1, gid: 2, modifiedNs: 1_700_000_000_000_000_000n },
    isLast,
  };
}

async function startPair() {
  const { address } = await startFixture(t);
  return { a: await startSatelliteNames(t, address), b: await startSatelliteNames(t, address) };
}

type Satellite = Awaited<ReturnType<typeof startPair>>['a'];

async function put({ changes }: Satellite, name: string, text: string): Promise<CreatedFile> {
  const created = await changes.createFile(at(name), NEW);
  await changes.commit(created.grant, content(text));
  return created;
}

/** The names of the root, page by page. */
async function list({ names }: Satellite): Promise<string[]> {
  const all: string[] = [];
  for (let after: string | undefined = ''; after !== undefined;) {
    const page = await names.list(ROOT, { after, entriesMax: 2 });
    all.push(...page.entries.map(({ name }) => name));
    after = page.next;
  }
  return all;
}

t.test('a file is this host’s alone until its first commit shows it to all, whole', async (t) => {
  const { a, b } = await startPair();
  t.equal(await b.names.lookup(ROOT, 'f'), undefined);
  await put(a, 'a', '');
  await put(a, 'z', '');
  const { grant, attributes } = await a.changes.createFile(at('f'), NEW);
  t.match(attributes, { kind: 'file', sizeBytes: 0, source: undefined, mode: 0o644, uid: 1, gid: 2 });
  t.same(a.names.knownName(ROOT, 'f'), { attributes, validForMs: 0 });
  t.same(await list(a), ['a', 'f', 'z']);
  t.equal(a.names.isListingHeld(ROOT), false);
  t.same(await a.names.attributes(grant.inode), attributes);
  t.equal(await b.names.lookup(ROOT, 'f'), undefined);
  t.same(await list(b), ['a', 'z']);
  await t.rejects(b.changes.createFile(at('f'), NEW), { code: 'exists' });

  const committed = await a.changes.commit(grant, content('hello', false));
  t.match(committed, { inode: grant.inode, sizeBytes: 5, mode: 0o640 });
  for (const { names } of [a, b])
    t.match(await names.lookup(ROOT, 'f'), { inode: grant.inode, sizeBytes: 5 });
  for (const one of [a, b]) t.same(await list(one), ['a', 'f', 'z']);
  await a.changes.commit(grant, content('hello again'));
  for (const { names } of [a, b]) t.match(await names.lookup(ROOT, 'f'), { sizeBytes: 11 });
  const again = await b.changes.openWrite(grant.inode);
  t.ok(again.grant.token > grant.token, 'a later write has a higher token');
  t.match(again.attributes, { sizeBytes: 11 });
  await b.changes.endWrite(again.grant);
});

t.test('each host sees its own changes and those of the other at once', async (t) => {
  const { a, b } = await startPair();
  for (let round = 0; round < 8; round++) {
    const [one, other] = round % 2 === 0 ? [a, b] : [b, a];
    const seen = async (name: string) => {
      const [mine, others] = [await one.names.lookup(ROOT, name), await other.names.lookup(ROOT, name)];
      t.equal(mine?.inode, others?.inode, `${name} in round ${round}`);
      return mine;
    };
    const { grant } = await put(one, 'f', `round ${round}`);
    t.equal((await seen('f'))?.inode, grant.inode);
    await other.changes.rename(at('f'), { ...at('g'), mode: 'replace' });
    t.equal(await seen('f'), undefined);
    t.equal((await seen('g'))?.inode, grant.inode);
    const directory = await one.changes.makeDirectory(at('d'), DIRECTORY);
    t.equal((await seen('d'))?.inode, directory.inode);
    await other.changes.rename(at('g'), { ...at('d'), mode: 'exchange' });
    t.equal((await seen('d'))?.inode, grant.inode);
    await other.changes.setAttributes(grant.inode, { mode: 0o600 });
    t.equal((await seen('d'))?.mode, 0o600);
    t.equal((await other.changes.unlink(at('d'))).inode, grant.inode);
    t.equal(await seen('d'), undefined);
    await one.changes.removeDirectory(at('g'));
    t.equal(await seen('g'), undefined);
  }
  t.equal(a.held.cache.own.size + b.held.cache.own.size, 0);
});

t.test('what stands in the way is told', async (t) => {
  const { a } = await startPair();
  await put(a, 'f', 'x');
  const directory = await a.changes.makeDirectory(at('d'), DIRECTORY);
  const inside = await a.changes.createFile(at('p', directory.inode), NEW);
  await t.rejects(a.changes.createFile(at('f'), NEW), { code: 'exists' });
  await t.rejects(a.changes.makeDirectory(at('f'), DIRECTORY), { code: 'exists' });
  await t.rejects(a.changes.unlink(at('d')), { code: 'is-directory' });
  await t.rejects(a.changes.removeDirectory(at('f')), { code: 'not-directory' });
  await t.rejects(a.changes.removeDirectory(at('d')), { code: 'not-empty' }, 'a pending file is a child');
  await t.rejects(a.changes.unlink(at('absent')), { code: 'not-found' });
  await t.rejects(a.changes.rename(at('f'), { ...at('d'), mode: 'keep' }), { code: 'exists' });
  await t.rejects(a.changes.rename(at('d'), { ...at('x', directory.inode), mode: 'replace' }), {
    code: 'invalid',
  });
  await a.changes.endWrite(inside.grant);
  t.equal(await a.names.lookup(directory.inode, 'p'), undefined);
  await a.changes.removeDirectory(at('d'));
  t.same(await list(a), ['f']);
});

t.test('a pending file is renamed, replaced and removed like others', async (t) => {
  const { a, b } = await startPair();
  const old = await put(a, 'taken', 'old');
  const { grant } = await a.changes.createFile(at('.tmp'), NEW);
  t.match(await a.changes.rename(at('.tmp'), { ...at('taken'), mode: 'replace' }), {
    inode: old.grant.inode,
  });
  t.same(await list(a), ['taken']);
  t.equal((await a.names.lookup(ROOT, 'taken'))?.inode, grant.inode);
  t.equal(
    (await b.names.lookup(ROOT, 'taken'))?.inode,
    old.grant.inode,
    'elsewhere the old one until the commit',
  );
  await a.changes.commit(grant, content('new'));
  for (const { names } of [a, b]) t.equal((await names.lookup(ROOT, 'taken'))?.inode, grant.inode);

  const gone = await a.changes.createFile(at('gone'), NEW);
  t.equal((await a.changes.unlink(at('gone'))).inode, gone.grant.inode);
  t.equal(await a.names.lookup(ROOT, 'gone'), undefined);
  await t.rejects(a.changes.commit(gone.grant, content('late')), { code: 'not-found' });
  t.equal(a.held.pending.size, 0);
});

t.test('one call an operation, and at most one to see what became of it', async (t) => {
  const { a } = await startPair();
  const callsOf = async (run: () => Promise<unknown>): Promise<string[]> => {
    a.calls.length = 0;
    await run();
    return [...a.calls];
  };
  // Of this one name; a listing behind is for all names.
  const seen = async (name: string): Promise<number> => {
    // The update was sent before the answer, by another stream, and is applied in a turn of its own.
    for (let turn = 0; turn < TURNS_MAX && a.names.knownName(ROOT, name) === undefined; turn++)
      await new Promise<void>((resolve) => nextTurn(resolve));
    if (a.names.knownName(ROOT, name) !== undefined) return 0;
    return (await callsOf(() => a.names.lookup(ROOT, name))).filter((call) => call === 'lookup').length;
  };
  let questions = 0;
  const steps: readonly [string, string, () => Promise<unknown>][] = [
    ['make', 'd', () => a.changes.makeDirectory(at('d'), DIRECTORY)],
    ['rename', 'e', () => a.changes.rename(at('d'), { ...at('e'), mode: 'replace' })],
    ['remove', 'e', () => a.changes.removeDirectory(at('e'))],
    ['make', 'l', () => a.changes.makeSymlink(at('l'), { target: 't', uid: 1, gid: 1 })],
    ['remove', 'l', () => a.changes.unlink(at('l'))],
  ];
  await a.names.attributes(ROOT);
  for (const [call, name, run] of steps) {
    await a.names.lookup(ROOT, name);
    t.same(await callsOf(run), [call]);
    const asked = await seen(name);
    t.ok(asked <= 1, `${asked} questions after ${call}`);
    questions += asked;
  }
  t.same(await callsOf(() => put(a, 'f', 'x')), ['createFile', 'commit']);
  t.comment(`${questions} questions after ${steps.length} changes`);
});

t.test('a pending file of an earlier life is shown again, and is committed', async (t) => {
  const { address } = await startFixture(t);
  const first = await startSatelliteNames(t, address);
  const created = await first.changes.createFile(at('f'), NEW);
  const { grant, attributes } = created;
  const next = await startSatelliteNames(t, address);
  t.same([...(await next.changes.reclaim([grant]))], [grant.write]);
  t.equal(await next.names.lookup(ROOT, 'f'), undefined);
  next.changes.adoptPending(grant, { place: at('f'), attributes });
  t.same(await next.names.lookup(ROOT, 'f'), attributes);
  await next.changes.commit(grant, content('kept'));
  t.match(await next.names.lookup(ROOT, 'f'), { sizeBytes: 4 });
});

t.test('a reclaimed write that was not adopted is committed for this host as for all', async (t) => {
  const { address } = await startFixture(t);
  const first = await startSatelliteNames(t, address);
  const { grant } = await first.changes.createFile(at('f'), NEW);
  const next = await startSatelliteNames(t, address);
  await next.changes.reclaim([grant]);
  t.equal(await next.names.lookup(ROOT, 'f'), undefined);
  await next.changes.commit(grant, content('kept'));
  t.match(await next.names.lookup(ROOT, 'f'), { sizeBytes: 4 });
});
