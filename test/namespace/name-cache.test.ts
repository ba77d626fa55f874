/** The facts under leases: what is kept, what a message takes away, and what is told of it. */
import t from 'tap';
import { ImmutablePaths } from '../../lib/namespace/immutable-paths.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import { attributesOf, grantOf, inodeNumber, leasedName, leaseOn, ROOT } from './fixture.ts';

function learn(
  cache: NameCache,
  name: string,
  options: { directory?: number; inode?: number; directoryKind?: boolean; sequence?: number } = {},
): boolean {
  const { directory = 1, inode, sequence = 0 } = options;
  const kind = options.directoryKind === true ? 'directory' : 'file';
  const question = cache.ask({ kind: 'name', directory: inodeNumber(directory), name });
  const attributes = inode === undefined ? undefined : attributesOf(inode, { kind });
  return cache.keepName(question, { attributes, grant: grantOf(directory, sequence) });
}

/** A page of files with inodes 100, 101 …. */
function learnPage(
  cache: NameCache,
  names: readonly string[],
  options: {
    directory?: number;
    after?: string;
    next?: string;
    sequence?: number;
    withdrawn?: string[];
  } = {},
): boolean {
  const { directory = 1, after = '', next, sequence = 0, withdrawn = [] } = options;
  const question = cache.ask({ kind: 'listing', directory: inodeNumber(directory) });
  const entries = names.map((name, index) => ({ name, attributes: attributesOf(100 + index) }));
  return cache.keepPage(question, { after, entries, next, withdrawn, grant: grantOf(directory, sequence) });
}

const withdraw = (cache: NameCache, name: string, sequence: number, directory = 1) =>
  cache.withdraw({ names: [leasedName(directory, name)], moved: [], sequence });
const update = (cache: NameCache, name: string, sequence: number, inode?: number) =>
  cache.update({
    names: [{ name: leasedName(1, name), inode: inode === undefined ? undefined : attributesOf(inode) }],
    sequence,
  });

t.test('a name that was answered under a lease is known, by name and by inode', async (t) => {
  const cache = new NameCache();
  t.equal(cache.name(ROOT, 'a'), undefined);
  t.ok(learn(cache, 'a', { inode: 7 }));
  t.match(cache.name(ROOT, 'a'), { state: 'known', attributes: { inode: 7n } });
  t.match(cache.inode(inodeNumber(7)), { name: 'a' });
  t.ok(learn(cache, 'b'));
  t.match(cache.name(ROOT, 'b'), { state: 'absent' });
  t.same(cache.stat(), { names: 2, directories: 1, directoriesComplete: 0 });
});

t.test('an answer without a lease is not kept', async (t) => {
  const cache = new NameCache();
  const question = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
  t.notOk(cache.keepName(question, { attributes: attributesOf(7), grant: undefined }));
  t.equal(cache.name(ROOT, 'a'), undefined);
  t.equal(cache.questions.size, 0);
});

t.test('an answer that a message overtook is used once', async (t) => {
  t.test('if the grant is older than the message', async (t) => {
    const cache = new NameCache();
    const question = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
    withdraw(cache, 'a', 5);
    t.notOk(cache.keepName(question, { attributes: attributesOf(7), grant: grantOf(1, 4) }));
  });
  t.test('but not if the grant is newer, or the message is about another name', async (t) => {
    const cache = new NameCache();
    const question = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
    const other = cache.ask({ kind: 'name', directory: ROOT, name: 'b' });
    withdraw(cache, 'a', 5);
    t.ok(cache.keepName(question, { attributes: attributesOf(7), grant: grantOf(1, 5) }));
    t.ok(cache.keepName(other, { attributes: attributesOf(8), grant: grantOf(1, 4) }));
  });
  t.test('also if it is a page, or about an inode of unknown place', async (t) => {
    const cache = new NameCache();
    const listing = cache.ask({ kind: 'listing', directory: ROOT });
    const inode = cache.ask({ kind: 'inode', inode: inodeNumber(7) });
    withdraw(cache, 'a', 5);
    const page = { after: '', entries: [], next: undefined, withdrawn: [] };
    t.notOk(cache.keepPage(listing, { ...page, grant: grantOf(1, 4) }));
    const where = { parent: ROOT, name: 'z' };
    t.notOk(cache.keepAttributes(inode, { attributes: attributesOf(7), ...where, grant: grantOf(1, 4) }));
  });
  t.test('for ever if the session was lost', async (t) => {
    const cache = new NameCache();
    const question = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
    cache.dropAll([]);
    t.notOk(cache.keepName(question, { attributes: attributesOf(7), grant: grantOf(1, 1_000_000) }));
  });
  t.test('a recall counts for all names', async (t) => {
    const cache = new NameCache();
    const question = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
    cache.recall([leaseOn(9)], 5);
    t.notOk(cache.keepName(question, { attributes: attributesOf(7), grant: grantOf(1, 4) }));
  });
});

t.test('an answer older than what is known since is used once', async (t) => {
  const cache = new NameCache();
  const slow = cache.ask({ kind: 'name', directory: ROOT, name: 'a' });
  learn(cache, 'a', { inode: 8, sequence: 6 });
  t.notOk(cache.keepName(slow, { attributes: attributesOf(7), grant: grantOf(1, 5) }));
  t.match(cache.name(ROOT, 'a'), { attributes: { inode: 8n } });
});

t.test('a withdrawn name is unknown until it is updated, and the kernel is told', async (t) => {
  const cache = new NameCache();
  learn(cache, 'a', { inode: 7 });
  learn(cache, 'gone');
  t.match(withdraw(cache, 'a', 1), { names: [{ name: 'a', inode: 7n }], everything: false, released: [] });
  t.equal(cache.name(ROOT, 'a'), undefined);
  t.equal(cache.inode(inodeNumber(7)), undefined);
  t.match(withdraw(cache, 'gone', 2), { names: [{ name: 'gone', inode: undefined }] });
  update(cache, 'a', 3, 9);
  update(cache, 'gone', 4, 10);
  t.match(cache.name(ROOT, 'a'), { attributes: { inode: 9n } });
  t.match(cache.name(ROOT, 'gone'), { attributes: { inode: 10n } });
  withdraw(cache, 'a', 5);
  update(cache, 'a', 6);
  t.match(cache.name(ROOT, 'a'), { state: 'absent' });
});

t.test('messages that are not newer than what is known are not applied', async (t) => {
  const cache = new NameCache();
  learn(cache, 'a', { inode: 7, sequence: 5 });
  t.match(withdraw(cache, 'a', 5), { names: [], released: [] });
  t.match(cache.name(ROOT, 'a'), { attributes: { inode: 7n } });
  update(cache, 'a', 5, 9);
  t.match(cache.name(ROOT, 'a'), { attributes: { inode: 7n } });
});

t.test(
  'an update of what was not withdrawn before, a change of our own, is told to the kernel',
  async (t) => {
    const cache = new NameCache();
    learn(cache, 'a', { inode: 7 });
    t.match(update(cache, 'a', 1, 9), { names: [{ name: 'a', inode: 7n }] });
    t.same(update(cache, 'unknown', 2, 9), { names: [], everything: false });
    t.equal(cache.name(ROOT, 'unknown'), undefined, 'nobody asked for it');
  },
);

t.test('directories of which nothing is known are given back, unless they are asked about', async (t) => {
  const cache = new NameCache();
  t.same(withdraw(cache, 'a', 1, 50).released, [50n]);
  const question = cache.ask({ kind: 'name', directory: inodeNumber(50), name: 'b' });
  t.same(withdraw(cache, 'a', 2, 50).released, []);
  cache.questions.end(question);
  t.same(withdraw(cache, 'a', 3, 50).released, [50n]);
});

t.test('a listed directory', async (t) => {
  t.test('knows what is absent, and answers pages in the order of bytes', async (t) => {
    const cache = new NameCache();
    learnPage(cache, ['b', 'c'], { next: 'c' });
    t.notOk(cache.isComplete(ROOT));
    t.match(cache.name(ROOT, 'a'), { state: 'absent' });
    t.equal(cache.name(ROOT, 'd'), undefined);
    t.match(cache.page(ROOT, { entriesMax: 10 }), { entries: [{ name: 'b' }, { name: 'c' }], next: 'c' });
    t.equal(cache.page(ROOT, { after: 'c', entriesMax: 10 }), undefined);
    learnPage(cache, ['x', '\u{1f600}'], { after: 'c' });
    t.ok(cache.isComplete(ROOT));
    t.match(cache.name(ROOT, 'd'), { state: 'absent' });
    const page = cache.page(ROOT, { entriesMax: 3 });
    t.same([page?.entries.map(({ name }) => name), page?.next], [['b', 'c', 'x'], 'x']);
    t.match(cache.page(ROOT, { after: 'x', entriesMax: 3 }), {
      entries: [{ name: '\u{1f600}' }],
      next: undefined,
    });
  });

  t.test('does not show a span that lies beyond a gap', async (t) => {
    const cache = new NameCache();
    learnPage(cache, ['x'], { after: 'm' });
    t.equal(cache.page(ROOT, { entriesMax: 10 }), undefined);
    t.equal(cache.name(ROOT, 'n'), undefined);
    t.match(cache.name(ROOT, 'x'), { state: 'known' });
  });

  t.test('stays listed when one of its names changes', async (t) => {
    const cache = new NameCache();
    learnPage(cache, ['a', 'b']);
    t.match(withdraw(cache, 'new', 1), { names: [] }, 'the kernel was never shown that it is absent');
    t.equal(cache.page(ROOT, { entriesMax: 10 }), undefined, 'while a name is withdrawn');
    t.match(cache.name(ROOT, 'other'), { state: 'absent' });
    update(cache, 'new', 2, 9);
    withdraw(cache, 'a', 3);
    update(cache, 'a', 4);
    const page = cache.page(ROOT, { entriesMax: 10 });
    t.same(
      page?.entries.map(({ name }) => name),
      ['b', 'new'],
    );
    t.match(withdraw(cache, 'other', 5), { names: [{ name: 'other', inode: undefined }] }, 'shown as absent');
  });

  t.test('takes names under change from the answer as withdrawn', async (t) => {
    const cache = new NameCache();
    learn(cache, 'shown', { inode: 7 });
    learnPage(cache, ['a'], { sequence: 4, withdrawn: ['shown', 'x'] });
    t.equal(cache.name(ROOT, 'x'), undefined);
    t.match(
      withdraw(cache, 'shown', 4),
      { names: [{ inode: 7n }] },
      'the withdraw that comes later finds it',
    );
    update(cache, 'x', 5, 9);
    t.match(cache.name(ROOT, 'x'), { state: 'known' });
  });
});

t.test('a directory that moves takes what is below it', async (t) => {
  const cache = new NameCache();
  learn(cache, 'dir', { inode: 10, directoryKind: true });
  learn(cache, 'sub', { directory: 10, inode: 11, directoryKind: true });
  learn(cache, 'file', { directory: 11, inode: 12 });
  learn(cache, 'lost', { directory: 77, inode: 78 });
  const done = cache.withdraw({
    names: [leasedName(1, 'dir'), leasedName(1, 'new')],
    moved: [inodeNumber(10)],
    sequence: 1,
  });
  t.equal(done.everything, true);
  t.equal(cache.name(inodeNumber(11), 'file'), undefined);
  t.equal(cache.name(inodeNumber(77), 'lost'), undefined, 'a place that is not known may lie below');
  t.equal(cache.stat().directories, 1);
});

t.test('a recall takes a directory, or all below one', async (t) => {
  const cache = new NameCache();
  learn(cache, 'dir', { inode: 10, directoryKind: true });
  learn(cache, 'file', { directory: 10, inode: 12 });
  t.same(cache.recall([leaseOn(1)], 1), { names: [], everything: true });
  t.match(cache.name(inodeNumber(10), 'file'), { state: 'known' });
  learn(cache, 'dir', { inode: 10, directoryKind: true, sequence: 1 });
  cache.recall([leaseOn(1, true)], 2);
  t.same(cache.stat(), { names: 0, directories: 0, directoriesComplete: 0 });
});

t.test('a reclaimed lease keeps names, but neither absences nor listings', async (t) => {
  const cache = new NameCache();
  learnPage(cache, ['a'], { sequence: 9 });
  learn(cache, 'absent', { sequence: 9 });
  learn(cache, 'other', { directory: 5, inode: 6, sequence: 9 });
  t.same(cache.dropAll([leaseOn(1)]), { names: [], everything: true });
  t.match(cache.name(ROOT, 'a'), { state: 'known', sequence: 0 });
  t.equal(cache.name(ROOT, 'absent'), undefined);
  t.equal(cache.name(inodeNumber(5), 'other'), undefined);
  t.equal(cache.isComplete(ROOT), false);
  t.match(withdraw(cache, 'a', 1), { names: [{ name: 'a' }] }, 'sequences begin anew');
});

t.test('immutable paths stay when the session is lost', async (t) => {
  const cache = new NameCache({ immutable: new ImmutablePaths(['sets/one/**']) });
  learn(cache, 'sets', { inode: 10, directoryKind: true });
  learn(cache, 'one', { directory: 10, inode: 11, directoryKind: true });
  learn(cache, 'two', { directory: 10, inode: 12, directoryKind: true });
  learnPage(cache, ['a', 'b'], { directory: 11 });
  learn(cache, 'none', { directory: 10 });
  cache.dropAll([]);
  t.match(cache.name(ROOT, 'sets'), { isImmutable: true }, 'the way there');
  t.match(cache.name(inodeNumber(10), 'one'), { isImmutable: true });
  t.match(cache.name(inodeNumber(11), 'a'), { isImmutable: true });
  t.match(cache.name(inodeNumber(11), 'absent'), { state: 'absent', isImmutable: true });
  t.ok(cache.page(inodeNumber(11), { entriesMax: 10 }), 'its listing too');
  t.equal(cache.name(inodeNumber(10), 'two'), undefined);
  t.equal(cache.name(inodeNumber(10), 'none'), undefined, 'what may yet be made beside it');
  t.equal(cache.page(inodeNumber(10), { entriesMax: 10 }), undefined);
});

t.test('too many names: directories that were not used lately go whole, and are given up', async (t) => {
  const cache = new NameCache({ namesMax: 40 });
  for (let directory = 2; directory < 6; directory++)
    for (let name = 0; name < 10; name++)
      learn(cache, `n${name}`, { directory, inode: directory * 100 + name });
  t.same(cache.shrink(), []);
  learn(cache, 'more', { directory: 6, inode: 60 });
  t.same(cache.shrink(), [2n], 'all were used: the oldest goes');
  cache.name(inodeNumber(3), 'n0');
  for (let name = 0; name < 10; name++) learn(cache, `n${name}`, { directory: 7, inode: 700 + name });
  t.same(cache.shrink(), [4n], 'the one that was used since stays');
  t.ok(cache.stat().names <= 40);
  t.equal(cache.inode(inodeNumber(200)), undefined);
});

t.test('leases held are told once each', async (t) => {
  const cache = new NameCache();
  for (const directory of [3, 4]) {
    const question = cache.ask({ kind: 'name', directory: inodeNumber(directory), name: 'a' });
    cache.keepName(question, { attributes: undefined, grant: grantOf(1, 0, true) });
  }
  t.same(cache.leases(), [leaseOn(1, true)]);
  t.same(cache.leaseOf(inodeNumber(3)), leaseOn(1, true));
});

t.test('a directory that this host moves takes what is known below it along', async (t) => {
  const place = (name: string) => ({ parent: ROOT, name });
  const move = { names: [place('d'), place('e')], inodes: [], moved: [inodeNumber(10)], isKernels: true };
  const setUp = (): NameCache => {
    const cache = new NameCache();
    learn(cache, 'd', { inode: 10, directoryKind: true });
    learn(cache, 'other', { inode: 20, directoryKind: true });
    learn(cache, 'f', { directory: 10, inode: 11 });
    learn(cache, 'g', { directory: 20, inode: 21 });
    return cache;
  };

  t.test('and the kernel forgets all', async (t) => {
    const cache = setUp();
    t.equal(cache.begin(move).everything, true);
    t.equal(cache.name(inodeNumber(10), 'f'), undefined);
    t.match(cache.name(inodeNumber(20), 'g'), { attributes: { inode: 21n } });
  });
  t.test('nothing of it is kept until the end, and what was asked before it not after', async (t) => {
    const cache = setUp();
    cache.begin(move);
    t.notOk(learn(cache, 'f', { directory: 10, inode: 11 }));
    t.notOk(learn(cache, 'x', { directory: 30, inode: 31 }), 'it may lie there');
    t.ok(learn(cache, 'x', { directory: 20, inode: 31 }));
    const early = cache.ask({ kind: 'name', directory: inodeNumber(10), name: 'f' });
    cache.end(move, { sequence: 0, session: 0 });
    t.notOk(cache.keepName(early, { attributes: attributesOf(11), grant: grantOf(10, 9) }));
    t.ok(learn(cache, 'f', { directory: 10, inode: 11 }));
  });
  t.test('the name that the kernel has moved is found by a withdraw', async (t) => {
    const cache = setUp();
    cache.begin(move);
    t.equal(cache.end(move, { sequence: 0, session: 0 }).everything, false);
    t.match(withdraw(cache, 'e', 5), { names: [{ name: 'e', wasAsked: true }] });
    const away = { ...move, names: [place('d'), { parent: inodeNumber(99), name: 'e' }] };
    cache.begin(away);
    t.equal(cache.end(away, { sequence: 0, session: 0 }).everything, true, 'or else all is dropped');
  });
});
