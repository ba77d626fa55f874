import t from 'tap';
import { BLOCK_BYTES, ConvergerWorld, INLINE_BYTES, PART_BYTES } from './converger-world.ts';

const SMALL = Buffer.from('small enough for a commit');
const large = (fill: string, parts = 3): Buffer => Buffer.alloc(parts * PART_BYTES + 5, fill);

t.test('write-through commits what was written before publish resolves', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  t.ok(copy.isDirty, 'a pending file is dirty');
  for (const bytes of [SMALL, large('a'), Buffer.alloc(0), large('b', 9)]) {
    world.fileOf(copy).poke(bytes);
    await world.during(copy.publish('through'));
    t.equal(world.versionsOf(copy).at(-1), bytes.toString('latin1'));
    await world.advance(50);
  }
  t.equal(world.versionsOf(copy).length, 4);
  copy.release('through');
  await world.advance(100);
  t.strictSame(world.origin.openWrites, [], 'the write is given back');
  t.match(world.staging.sealed, [{ bytes: large('b', 9) }], 'and the copy is the blob of its version');
  t.equal(world.writeBack.of(copy.grant.inode), undefined);
});

t.test('write-back acknowledges first, and commits behind', async (t) => {
  const world = new ConvergerWorld();
  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  world.holds.set('commit', hold);
  const copy = await world.create('d/f');
  world.fileOf(copy).poke(SMALL);
  await copy.publish('back');
  t.match(world.fileOf(copy).row, { state: 'closed', path: 'd/f', isCommitted: false });
  copy.release('back');
  await world.advance(100);
  t.match(world.writeBack.list(), [{ path: 'd/f', state: 'committing', sizeBytes: SMALL.length }]);
  t.match(world.writeBack.stat(), {
    dirtyFiles: 1,
    dirtyBytes: SMALL.length,
    openFiles: 0,
    convergedFiles: 0,
  });
  let flushed = false;
  const flushing = world.writeBack.flush('d').then(() => (flushed = true));
  await world.during(world.writeBack.flush('other'));
  t.notOk(flushed);
  go();
  await world.during(flushing);
  t.strictSame(world.versionsOf(copy), [SMALL.toString()]);
  await world.advance(100);
  t.match(world.writeBack.stat(), {
    dirtyFiles: 0,
    dirtyBytes: 0,
    convergedFiles: 1,
    convergedBytes: SMALL.length,
  });
  t.equal(world.staging.files.size, 0);
});

t.test('what is published twice without a change is one version', async (t) => {
  for (const bytes of [SMALL, large('a')]) {
    const world = new ConvergerWorld();
    const copy = await world.create('f');
    world.fileOf(copy).poke(bytes);
    await world.during(copy.publish('through'));
    await world.during(copy.publish('through'));
    await world.during(copy.publish('back'));
    copy.release('back');
    await world.advance(200);
    t.equal(world.versionsOf(copy).length, 1);
    t.equal(world.origin.calls.get('commit'), 1);
    t.equal(world.staging.sealed.length, 1);
  }
});

t.test('a change within the tick of the clock in which a version was made is noticed', async (t) => {
  for (const size of [20, 3 * PART_BYTES]) {
    const world = new ConvergerWorld();
    const copy = await world.create('f');
    const file = world.fileOf(copy);
    file.poke(Buffer.alloc(size, 'a'));
    await world.during(copy.publish('through'), 1);
    const before = file.stat();
    file.poke(Buffer.alloc(size, 'b'));
    t.strictSame(file.stat(), before, 'the stamp tells nothing');
    t.ok(copy.isDirty);
    copy.release('through');
    await world.advance(200);
    t.equal(world.versionsOf(copy).at(-1), 'b'.repeat(size));
    t.equal(world.staging.sealed[0]!.bytes.toString(), 'b'.repeat(size));
  }
});

t.test('a version holds the bytes of one instant, also of one tick of the clock', async (t) => {
  const parts = new ConvergerWorld();
  const big = await parts.create('f');
  const file = parts.fileOf(big);
  file.poke(Buffer.alloc(2 * PART_BYTES, 'a'));
  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  let isFirst = true;
  parts.origin.onSent = ({ range }) => {
    if (range.number !== 1 || !isFirst) return;
    isFirst = false;
    parts.holds.set('send', hold);
  };
  const publishing = big.publish('through');
  await parts.calm();
  const before = file.stat();
  file.poke(Buffer.alloc(2 * PART_BYTES, 'b'));
  t.strictSame(file.stat(), before, 'the stamp tells nothing');
  go();
  await parts.during(publishing);
  t.equal(parts.versionsOf(big).at(-1), 'b'.repeat(2 * PART_BYTES));

  const inline = new ConvergerWorld();
  const small = await inline.create('f');
  const other = inline.fileOf(small);
  other.poke(Buffer.from('aaaa'));
  const read = other.read.bind(other);
  other.read = async (offset, length) => {
    const bytes = await read(offset, length);
    other.read = read;
    // What was read was torn: a write was in the middle of it.
    const torn = Buffer.from(bytes);
    torn.fill('b', 2);
    other.poke(Buffer.from('bbbb'));
    return torn;
  };
  await inline.during(small.publish('through'));
  t.equal(inline.versionsOf(small).at(-1), 'bbbb');
});

t.test('what is promised while a commit is under way is not settled by it', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(SMALL);
  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  world.holds.set('commit', hold);
  const publishing = copy.publish('through');
  await world.advance(50);
  world.fileOf(copy).poke(large('s'));
  await world.during(copy.sync({ dataOnly: false }));
  go();
  await world.during(publishing);
  t.strictSame(world.versionsOf(copy), [SMALL.toString()]);
  world.die();
  await world.during(world.writeBack.flush(''));
  t.strictSame(world.versionsOf(copy), [SMALL.toString(), large('s').toString()]);
});

t.test('attributes and times alone are a version too', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(SMALL);
  await world.during(copy.publish('through'));
  await world.advance(100);
  copy.setAttributes({ mode: 0o600, extended: { 'user.a': Buffer.from('1') } });
  t.ok(copy.isDirty);
  await world.during(copy.publish('through'));
  copy.setTimes({ modifiedNs: 5n });
  await world.during(copy.publish('through'));
  const { versions } = world.origin.inodes.get(copy.grant.inode)!;
  t.equal(versions.length, 3);
  t.match(versions[2]!.attributes, { mode: 0o600, modifiedNs: 5n, extended: { 'user.a': Buffer.from('1') } });
});

t.test('a file that was opened and not written makes no version', async (t) => {
  const world = new ConvergerWorld();
  const made = await world.create('f');
  world.fileOf(made).poke(large('a'));
  await world.during(made.publish('through'));
  made.release('through');
  await world.advance(200);
  const copy = await world.open(made.grant.inode);
  t.notOk(copy.isDirty);
  await world.during(copy.publish('through'));
  copy.release('through');
  await world.advance(200);
  t.equal(world.versionsOf(made).length, 1);
  t.strictSame(world.origin.openWrites, []);
  t.equal(world.staging.files.size, 0);
});

t.test('a failed publication in write-through tells the writer, and is made behind', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(large('a'));
  world.weather.fails = 1;
  await t.rejects(world.during(copy.publish('through')), { code: 'unavailable' });
  t.match(world.fileOf(copy).row, { state: 'closed' });
  copy.release('through');
  await world.advance(20_000, 100);
  t.match(world.writeBack.list(), [{ state: 'failing', failure: 'the origin is away' }]);
  t.equal(world.writeBack.stat().failing, 1);
  world.weather.fails = 0;
  await world.during(world.writeBack.flush(''), 1_000);
  t.strictSame(world.versionsOf(copy), [large('a').toString()], 'flush does not wait for the pause to end');
  await world.advance(200);
  t.equal(world.staging.files.size, 0);
});

t.test('at the limit writers wait until enough is converged', async (t) => {
  const world = new ConvergerWorld({ bytesMax: 100 });
  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  world.holds.set('commit', hold);
  const one = await world.create('one');
  world.fileOf(one).poke(Buffer.alloc(80, 'a'));
  await world.during(one.publish('back'), 50);
  const two = await world.create('two');
  world.fileOf(two).poke(Buffer.alloc(80, 'b'));
  const publishing = two.publish('back');
  await t.rejects(world.during(publishing, 5_000), /does not end/);
  const impatient = await world.create('impatient');
  const cancel = new AbortController();
  const waiting = impatient.publish('back', { signal: cancel.signal });
  await world.advance(10);
  cancel.abort(new Error('enough'));
  await t.rejects(world.during(waiting), { message: 'enough' });
  go();
  await world.during(publishing);
  const { values } = await world.metrics.limitReached.get();
  t.match(values, [{ labels: { limit: 'writeback' }, value: 2 }]);
});

t.test('a writer that another host has taken over keeps its bytes beside the new version', async (t) => {
  for (const mode of ['back', 'through'] as const) {
    const world = new ConvergerWorld();
    const copy = await world.create('d/model.pt');
    const { inode } = copy.grant;
    world.fileOf(copy).poke(large('a'));
    world.origin.takeOver(inode);
    if (mode === 'back') await copy.publish(mode);
    else await t.rejects(world.during(copy.publish(mode)), { code: 'fenced' });
    copy.release(mode);
    await world.advance(500);
    t.match(world.origin.inodes.get(inode)!.versions, [{ write: undefined }], 'nothing lies over theirs');
    const [conflict] = world.writeBack.stat().conflicts;
    t.match(conflict, /^d\/model\.pt\.conflict-gpu-1-19700101T\d{6}$/);
    t.equal(copy.path, conflict);
    t.strictSame(world.versionsOf(copy), [large('a').toString()]);
    t.equal(world.staging.files.size, 0);
  }
});

t.test('a file that was removed elsewhere is dropped', async (t) => {
  for (const bytes of [SMALL, large('a')]) {
    const world = new ConvergerWorld();
    const copy = await world.create('f');
    world.fileOf(copy).poke(bytes);
    world.origin.remove(copy.grant.inode);
    await world.during(copy.publish('through'));
    t.notOk(copy.isDirty);
    copy.release('through');
    await world.advance(100);
    t.equal(world.staging.files.size, 0);
    t.strictSame(world.writeBack.stat().conflicts, []);
  }
});

t.test('an unlinked file is dropped with its last handle', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(SMALL);
  await copy.publish('back');
  copy.unlinked();
  t.notOk(copy.isDirty);
  await world.advance(100);
  t.equal(Buffer.from(await world.during(copy.read(0, 100))).toString(), SMALL.toString());
  world.fileOf(copy).poke(large('a'));
  await world.during(copy.publish('through'));
  copy.release('back');
  await world.advance(100);
  t.equal(world.staging.files.size, 0);
  t.strictSame(world.versionsOf(copy), []);
  t.strictSame(world.origin.openWrites, []);
});

t.test(
  'a store that forgets an upload gets all parts again, and the writer does not hear of it',
  async (t) => {
    for (const mode of ['back', 'through'] as const) {
      const world = new ConvergerWorld();
      const copy = await world.create('f');
      world.fileOf(copy).poke(large('a'));
      const { promise: hold, resolve: go } = Promise.withResolvers<void>();
      world.holds.set('commit', hold);
      const publishing = copy.publish(mode).then(() => world.writeBack.flush(''));
      await world.advance(100);
      world.origin.forgetUploads();
      go();
      await world.during(publishing);
      t.strictSame(world.versionsOf(copy), [large('a').toString()]);
    }
  },
);

t.test('parts that the writer has passed are sent ahead, and again if they change', async (t) => {
  const world = new ConvergerWorld({ sendsAhead: () => true });
  const copy = await world.create('f');
  const file = world.fileOf(copy);
  file.poke(Buffer.alloc(4 * PART_BYTES, 'a'));
  await world.advance(60);
  t.equal(world.origin.sentBytes, 3 * PART_BYTES, 'not the last one: the writer may still be at it');
  file.poke(Buffer.concat([Buffer.from('B'), file.bytes.subarray(1), Buffer.from('end')]));
  await world.advance(60);
  t.equal(world.origin.sentBytes, 3 * PART_BYTES);
  await world.during(copy.publish('through'));
  t.equal(world.origin.sentBytes, 5 * PART_BYTES + 3);
  t.strictSame(world.versionsOf(copy), [`B${'a'.repeat(4 * PART_BYTES - 1)}end`]);
});

t.test('a copy is opened again until it has become a blob', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(SMALL);
  await copy.publish('back');
  copy.release('back');
  t.ok(await world.during(copy.reopen()));
  t.equal(world.writeBack.of(copy.grant.inode), copy);
  await world.advance(200);
  world.fileOf(copy).poke(large('z'));
  copy.release('back');
  await world.advance(200);
  t.strictSame(world.versionsOf(copy), [SMALL.toString(), large('z').toString()]);
  t.equal(await world.during(copy.reopen()), false);

  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  world.holds.set('endWrite', hold);
  const other = await world.open(copy.grant.inode);
  other.release('back');
  await world.advance(100);
  const reopening = other.reopen();
  await t.rejects(world.during(reopening, 1_000), /does not end/, 'the write is still being given back');
  go();
  t.equal(await world.during(reopening), false);
});

t.test('a file that is still mapped is published again before it becomes a blob', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  const file = world.fileOf(copy);
  file.poke(SMALL);
  await world.during(copy.publish('through'));
  world.staging.mapped.add(file);
  copy.release('through');
  await world.advance(3_000, 50);
  t.equal(world.staging.sealed.length, 0);
  file.poke(large('m'));
  world.staging.mapped.delete(file);
  await world.advance(3_000, 50);
  t.strictSame(world.versionsOf(copy), [SMALL.toString(), large('m').toString()]);
  t.equal(world.staging.sealed[0]!.bytes.toString(), large('m').toString());
});

t.test('a file that goes on changing is left to the next close', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  const file = world.fileOf(copy);
  file.poke(large('a'));
  world.weather.delayMs = 20;
  let changes = 0;
  const stop = world.clock.every(7, () => file.poke(large(String(changes++ % 10))));
  await world.during(copy.publish('through'), 60_000);
  stop();
  t.ok(copy.isDirty);
  t.strictSame(world.versionsOf(copy), []);
  copy.release('through');
  await world.advance(5_000, 20);
  t.strictSame(world.versionsOf(copy), [file.bytes.toString()]);
});

t.test('the next life goes on with what was synced or closed, and gives the rest back', async (t) => {
  const world = new ConvergerWorld();
  const closed = await world.create('closed');
  world.fileOf(closed).poke(SMALL);
  const synced = await world.create('synced');
  world.fileOf(synced).poke(large('s'));
  const begun = await world.create('begun');
  world.fileOf(begun).poke(SMALL);
  world.weather.fails = 1;
  await closed.publish('back');
  await world.during(synced.sync({ dataOnly: false }));
  const taken = await world.create('taken');
  world.fileOf(taken).poke(large('t'));
  await taken.publish('back');
  world.origin.takeOver(taken.grant.inode);
  world.die();
  world.weather.fails = 0;
  t.equal(world.writeBack.stat().dirtyFiles, 3);
  await world.during(world.writeBack.flush(''));
  t.strictSame(world.versionsOf(closed), [SMALL.toString()]);
  t.strictSame(world.versionsOf(synced), [large('s').toString()]);
  t.strictSame(world.versionsOf(begun), []);
  t.match(world.versionsOf(taken), [/^theirs/]);
  const { conflicts } = world.writeBack.stat();
  t.match(conflicts, [/^taken\.conflict/]);
  const kept = [...world.origin.inodes.values()].find(({ name }) => name === conflicts[0]);
  t.match(kept?.versions, [{ bytes: large('t').toString() }]);
  await world.advance(500);
  t.strictSame(world.origin.openWrites, []);
  t.equal(world.staging.files.size, 0);
});

t.test('closing journals what is open, and leaves to the next life what does not converge', async (t) => {
  const world = new ConvergerWorld();
  const copy = await world.create('f');
  world.fileOf(copy).poke(SMALL);
  const away = await world.create('away');
  world.fileOf(away).poke(large('b'));
  const { promise } = Promise.withResolvers<void>();
  world.holds.set('beginUpload', promise);
  await world.during(world.writeBack.close({ deadlineMs: 1_000 }));
  t.strictSame(world.versionsOf(copy), [SMALL.toString()]);
  t.match(world.fileOf(away).row, { state: 'closed' });
  await t.rejects(world.during(away.publish('back')), { code: 'closed' });
  world.holds.clear();
  world.die();
  await world.during(world.writeBack.flush(''));
  t.strictSame(world.versionsOf(away), [large('b').toString()]);
});

t.ok(INLINE_BYTES < PART_BYTES && PART_BYTES % BLOCK_BYTES === 0);
