import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { UsageError } from '../../lib/base/errors.ts';
import { LiveFiles } from '../../lib/config/live-files.ts';
import { FakeClock } from '../cli/fakes.ts';

function open(t: Test, { isSecret = false } = {}) {
  const directory = t.testdir({ one: '1', two: '2' });
  const [one, two] = [path.join(directory, 'one'), path.join(directory, 'two')];
  for (const file of [one, two]) fs.chmodSync(file, 0o600);
  const clock = new FakeClock();
  const events: string[] = [];
  const make = () =>
    new LiveFiles({
      files: [
        { flag: '--one', path: one, isSecret },
        { flag: '--two', path: two, isSecret },
      ],
      parse(texts) {
        if (texts.includes('bad')) throw new UsageError('bad');
        return { texts };
      },
      clock,
      onChange: () => events.push('changed'),
      onBroken: (error) => events.push((error as Error).message),
    });
  return { one, two, clock, events, make };
}

t.test('files are read again when they change, and only then', async (t) => {
  const { one, clock, events, make } = open(t);
  const files = make();
  const first = files.current();
  t.same(first.texts, ['1', '2']);
  fs.writeFileSync(one, '10');
  t.equal(files.current(), first, 'not looked at within a second');
  clock.pass(1_000);
  t.same(files.current().texts, ['10', '2']);
  const second = files.current();
  clock.pass(1_000);
  t.equal(files.current(), second, 'the same object as long as nothing changed');
  t.same(events, ['changed']);
});

t.test('files that are exchanged by a rename are read again, also with the same size and time', async (t) => {
  const { one, clock, make } = open(t);
  const files = make();
  const { atime, mtime } = fs.statSync(one);
  fs.writeFileSync(`${one}.new`, '7', { mode: 0o600 });
  fs.utimesSync(`${one}.new`, atime, mtime);
  fs.renameSync(`${one}.new`, one);
  clock.pass(1_000);
  t.same(files.current().texts, ['7', '2']);
});

t.test('files that make no sense leave the old value, are told of once, and may recover', async (t) => {
  const { one, clock, events, make } = open(t);
  const files = make();
  fs.writeFileSync(one, 'bad');
  for (let second = 0; second < 3; second++) {
    clock.pass(1_000);
    t.same(files.current().texts, ['1', '2']);
  }
  fs.rmSync(one);
  clock.pass(1_000);
  t.same(files.current().texts, ['1', '2']);
  fs.writeFileSync(one, '3', { mode: 0o600 });
  clock.pass(1_000);
  t.same(files.current().texts, ['3', '2']);
  t.same(events, ['bad', `--one: cannot read ${one}`, 'changed']);
});

t.test('files that make no sense at the start are refused', async (t) => {
  const { one, make } = open(t);
  fs.writeFileSync(one, 'bad');
  t.throws(make, { code: 'usage', message: 'bad' });
  fs.rmSync(one);
  t.throws(make, { code: 'usage', message: /--one: cannot read/ });
  fs.writeFileSync(one, Buffer.alloc(5 * 1024 * 1024));
  t.throws(make, { code: 'usage', message: /--one: cannot read/, cause: { message: /over/ } });
});

t.test('a secret that everybody may read is refused, at the start and later', async (t) => {
  const { one, clock, events, make } = open(t, { isSecret: true });
  for (const mode of [0o604, 0o644, 0o602, 0o666]) {
    fs.chmodSync(one, mode);
    t.throws(
      make,
      { code: 'usage', message: /every user of this host/, hint: /chmod 600/ },
      mode.toString(8),
    );
  }
  fs.chmodSync(one, 0o640);
  const files = make();
  fs.writeFileSync(one, '5');
  fs.chmodSync(one, 0o644);
  clock.pass(1_000);
  t.same(files.current().texts, ['1', '2']);
  t.match(events[0], /every user of this host/);
});
