import { Writable } from 'node:stream';
import t from 'tap';
import { nameText, tableText } from '../../lib/cli/format.ts';
import { streamOutput } from '../../lib/cli/output.ts';

/** A stream that keeps its text, and may refuse as a closed pipe does. */
function stream(options: { readonly isTTY?: boolean; readonly broken?: boolean } = {}) {
  const written: string[] = [];
  const sink = new Writable({
    write(chunk, _, done) {
      if (options.broken) return done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      written.push(String(chunk));
      done();
    },
  });
  return Object.assign(sink, { isTTY: options.isTTY ?? false, columns: 20, written });
}

t.test('data goes to standard output, the rest to standard error', async (t) => {
  const [stdout, stderr] = [stream(), stream()];
  const out = streamOutput({ stdout, stderr } as never);
  out.line('data');
  out.json({ a: 1 });
  out.note('perigee: trouble');
  t.equal(stdout.written.join(''), 'data\n{\n  "a": 1\n}\n');
  t.equal(stderr.written.join(''), 'perigee: trouble\n');
  t.equal(out.terminal, false);
});

t.test('a line that is drawn over fits the terminal and ends before the next one', async (t) => {
  const [stdout, stderr] = [stream({ isTTY: true }), stream()];
  const out = streamOutput({ stdout, stderr } as never);
  t.equal(out.terminal, true);
  out.redraw('figures '.repeat(10));
  out.redraw('more');
  out.line('end');
  t.equal(stdout.written.join(''), '\r\u001b[2Kfigures figures fig\r\u001b[2Kmore\nend\n');
});

t.test('a reader that goes away ends nothing', async (t) => {
  const [stdout, stderr] = [stream({ broken: true }), stream()];
  const out = streamOutput({ stdout, stderr } as never);
  const failed = new Promise((resolve) => stdout.once('error', resolve));
  out.line('x');
  await failed;
  out.line('y');
  out.note('z');
  t.same(stderr.written, []);
});

t.test('a table pads all columns but the last', async (t) => {
  t.same(
    tableText([
      ['a', 'bbb', 'c'],
      ['aaa', 'b', 'größe'],
    ]),
    ['a    bbb  c', 'aaa  b    größe'],
  );
  t.same(tableText([]), []);
});

t.test('a name cannot drive the terminal', async (t) => {
  t.equal(nameText('große datei.bin'), 'große datei.bin');
  t.equal(nameText('a\u001b[2J\nb\u007f\u009b'), '"a\\u001b[2J\\nb\\u007f\\u009b"');
});
