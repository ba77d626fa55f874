/** Heads of HTTP answers: the same however they are cut into pieces, and nothing guessed. */
import fc from 'fast-check';
import t from 'tap';
import { HEAD_BYTES_MAX, HeadReader, type HeadStep, type HttpMethod } from '../../lib/store/http-head.ts';

/** Feeds pieces until the head is there; `rest` is what followed it, the pieces behind included. */
function read(pieces: readonly Buffer[], method: HttpMethod = 'GET'): { step: HeadStep; rest: Buffer } {
  const reader = new HeadReader(method);
  for (const [index, piece] of pieces.entries()) {
    const step = reader.add(piece);
    // The memory of a piece may be used again.
    const rest = step.kind === 'head' ? Buffer.from(step.rest) : Buffer.alloc(0);
    piece.fill(0);
    if (step.kind !== 'more') return { step, rest: Buffer.concat([rest, ...pieces.slice(index + 1)]) };
  }
  return { step: { kind: 'more' }, rest: Buffer.alloc(0) };
}

const whole = (text: string, method?: HttpMethod): HeadStep =>
  read([Buffer.from(text, 'latin1')], method).step;

t.test('a head is read the same from pieces of any size', async () => {
  const answer = Buffer.concat([
    Buffer.from(
      'HTTP/1.1 206 Partial Content\r\nContent-Length: 300\r\nETag: "a"\r\nX-Amz-Meta-A: b\r\n\r\n',
    ),
    Buffer.from(Array.from({ length: 300 }, (_, index) => index % 256)),
  ]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: answer.length - 1 })), (cuts) => {
      const ends = [...new Set([...cuts, answer.length])].sort((a, b) => a - b);
      const pieces = ends.map((end, index) => Buffer.from(answer.subarray(ends[index - 1] ?? 0, end)));
      const { step, rest } = read(pieces);
      if (step.kind !== 'head') return false;
      const { status, headers, bodyBytes, keepsConnection } = step.head;
      return (
        status === 206 &&
        bodyBytes === 300 &&
        keepsConnection &&
        headers['etag'] === '"a"' &&
        headers['x-amz-meta-a'] === 'b' &&
        rest.equals(answer.subarray(answer.length - 300))
      );
    }),
  );
});

t.test('a head whose body ends for certain is understood', async (t) => {
  const understood: [text: string, bodyBytes: number, method?: HttpMethod][] = [
    ['HTTP/1.1 200 OK\r\ncontent-length:10\r\n\r\n', 10],
    ['HTTP/1.1 200\r\nContent-Length: \t10 \t\r\n\r\n', 10],
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 0],
    ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n', 0, 'HEAD'],
    ['HTTP/1.1 404 \r\n\r\n', 0, 'HEAD'],
    ['HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n', 0],
    ['HTTP/1.1 204 No Content\r\n\r\n', 0],
  ];
  for (const [text, bodyBytes, method] of understood) {
    t.match(whole(text, method), { kind: 'head', head: { bodyBytes, keepsConnection: true } }, text);
  }
  t.match(whole('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close\r\n\r\n'), {
    head: { keepsConnection: false },
  });
  t.match(whole('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nvary: a\r\nVary: b\r\n\r\n'), {
    head: { headers: { vary: 'a, b' } },
  });
});

t.test('a head that leaves anything to guess is unusual', async (t) => {
  const unusual: [text: string, status?: number][] = [
    ['HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n'],
    ['HTTP/2 200\r\nContent-Length: 1\r\n\r\n'],
    ['ICY 200 OK\r\n\r\n'],
    ['HTTP/1.1 20 OK\r\n\r\n'],
    ['HTTP/1.1 100 Continue\r\n\r\n', 100],
    ['HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n', 301],
    ['HTTP/1.1 307 Elsewhere\r\nContent-Length: 0\r\n\r\n', 307],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\nX: y\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\0b\r\n\r\n', 200],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nno colon\r\n\r\n', 200],
    [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(HEAD_BYTES_MAX)}\r\nContent-Length: 1\r\n\r\n`],
    ['x'.repeat(HEAD_BYTES_MAX + 1)],
  ];
  for (const [text, status] of unusual) {
    const step = whole(text);
    t.equal(step.kind, 'unusual', JSON.stringify(text.slice(0, 80)));
    t.equal(step.kind === 'unusual' ? step.status : -1, status, JSON.stringify(text.slice(0, 80)));
  }
  t.equal(whole('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n').kind, 'more');
});
