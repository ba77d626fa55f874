import t from 'tap';
import type { VersionId } from '../../lib/base/brand.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { GIB, MIB } from '../../lib/base/limits.ts';
import { createStreamObserver } from '../../lib/prefetch/stream-observer.ts';

const version = (n: number): VersionId => n.toString(16).padStart(32, '0') as VersionId;
const at = (n: number, offset: number) => ({ version: version(n), sizeBytes: GIB, offset, length: MIB });

t.test('stream observer', async (t) => {
  t.test('each version has streams of its own', async (t) => {
    const observer = createStreamObserver({ clock: systemClock });
    t.same(observer.read(at(1, 0)), []);
    t.same(observer.read(at(2, MIB)), [], 'another file that goes on there is no pattern');
    t.match(observer.read(at(1, MIB)), [{ kind: 'fill', offset: 2 * MIB }]);
  });

  t.test('many versions share what may be read ahead', async (t) => {
    const observer = createStreamObserver({ clock: systemClock });
    const versions = 32;
    const ahead = new Map<number, number>();
    let largest = 0;
    for (let offset = 0; offset < 128 * MIB; offset += MIB) {
      for (let n = 1; n <= versions; n++) {
        for (const advice of observer.read(at(n, offset))) {
          if (advice.kind === 'fill') ahead.set(n, advice.offset + advice.length);
        }
        largest = Math.max(largest, (ahead.get(n) ?? 0) - offset);
      }
    }
    t.equal(ahead.size, versions, 'each has a window');
    t.ok(largest <= (512 * MIB) / versions + 8 * MIB, `${largest / MIB} MiB`);
  });

  t.test('a closed version is forgotten', async (t) => {
    const observer = createStreamObserver({ clock: systemClock });
    observer.read(at(1, 0));
    observer.closed(version(1));
    t.same(observer.read(at(1, MIB)), []);
  });

  t.test('the version unread for longest is forgotten first', async (t) => {
    const observer = createStreamObserver({ clock: systemClock });
    observer.read(at(1, 0));
    observer.read(at(2, 0));
    for (let n = 3; n <= 4096; n++) observer.read(at(n, 0));
    t.equal(observer.read(at(1, MIB)).length, 1, 'version 1 is known, and now the latest');
    observer.read(at(5000, 0));
    t.same(observer.read(at(2, MIB)), [], 'version 2 went');
  });
});
