import t from 'tap';
import { readManifest } from '../../lib/prefetch/manifest.ts';
import { ReadingWindow } from '../../lib/prefetch/reading-window.ts';

t.test('a window is as long as it was told and moves with the reader', async (t) => {
  const window = new ReadingWindow(3);
  const added: number[] = [];
  const fill = (): void => {
    while (window.hasRoom) {
      window.add(`f${added.length}`);
      added.push(added.length);
    }
  };
  fill();
  t.equal(added.length, 3);
  t.equal(window.opened('elsewhere'), undefined);
  t.same(window.opened('f1'), []);
  fill();
  t.equal(added.length, 5, 'as far beyond the furthest file that was opened');
  t.same(window.opened('f0'), [], 'one that was passed over and comes late');
  fill();
  t.equal(added.length, 5);
});

t.test('what the reader left far behind is skipped', async (t) => {
  const window = new ReadingWindow(undefined);
  for (let file = 0; file < 200; file++) window.add(`f${file}`);
  t.same(window.opened('f66'), ['f0', 'f1', 'f2'], 'beyond what processes of one reader are apart');
  t.equal(window.opened('f1'), undefined);
  t.same(window.opened('f67'), ['f3']);
});

t.test('a manifest is one path a line, however it is written', async (t) => {
  const text = '# epoch 1\n/a/b\n\n./c d\r\n/mnt/data/e\n  f\n';
  t.same(readManifest(text, { mountpoint: '/mnt/data' }), ['a/b', 'c d', 'e', '  f']);
  t.throws(() => readManifest('# nothing\n', { mountpoint: '/m' }), {
    code: 'manifest',
    hint: /one path a line/,
  });
});
