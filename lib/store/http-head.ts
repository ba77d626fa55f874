/**
 * Reads the head of an HTTP/1.1 answer out of pieces of any size. Pure.
 *
 * Strict on purpose: it understands the answers whose end is certain (a length that is said once, or no body at all) and
 * calls everything else `unusual`: other versions, interim answers, redirections, chunked bodies, bodies that end with
 * their connection, repeated lengths, bare line feeds, folded lines. Whoever asked then asks in another way; nothing is
 * guessed, so no byte of a head is ever taken for one of a body, or the reverse.
 */
import { invariant } from '../base/errors.ts';

export interface HttpHead {
  readonly status: number;
  /** Names in lower case; what came several times is joined by a comma. */
  readonly headers: Readonly<Record<string, string>>;
  /** What follows the head and belongs to this answer. */
  readonly bodyBytes: number;
  /** The server takes another request on this connection. */
  readonly keepsConnection: boolean;
}

export type HttpMethod = 'GET' | 'HEAD';

/**
 * - `more`: the head is not complete
 * - `head`: it is; `rest` of the last piece lies behind it, in the memory of that piece
 * - `unusual`: not understood; `status` and `headers` as far as they were
 */
export type HeadStep =
  | { readonly kind: 'more' }
  | { readonly kind: 'head'; readonly head: HttpHead; readonly rest: Buffer }
  | { readonly kind: 'unusual'; readonly why: string; readonly status?: number };

/** Servers and Node's own client allow about as much. */
export const HEAD_BYTES_MAX = 16 * 1024;

const STATUS_LINE = /^HTTP\/1\.1 ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const HEADER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/;
const MORE: HeadStep = { kind: 'more' };
/** If they come twice, two readers may disagree on what they mean. */
const SAID_ONCE = new Set(['content-length', 'content-range', 'transfer-encoding', 'etag']);

export class HeadReader {
  readonly #method: HttpMethod;
  #earlier: Buffer | undefined;
  #ended = false;

  constructor(method: HttpMethod) {
    this.#method = method;
  }

  add(piece: Buffer): HeadStep {
    invariant(!this.#ended, 'a head is read once');
    const bytes = this.#earlier === undefined ? piece : Buffer.concat([this.#earlier, piece]);
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1 && bytes.length <= HEAD_BYTES_MAX) {
      this.#earlier = Buffer.from(bytes);
      return MORE;
    }
    this.#ended = true;
    if (end === -1 || end > HEAD_BYTES_MAX) return { kind: 'unusual', why: 'the head is too long' };
    const read = readHead(bytes.toString('latin1', 0, end), this.#method);
    return 'why' in read
      ? { kind: 'unusual', ...read }
      : { kind: 'head', head: read, rest: bytes.subarray(end + 4) };
  }
}

function readHead(
  text: string,
  method: HttpMethod,
): HttpHead | { readonly why: string; readonly status?: number } {
  const [first = '', ...lines] = text.split('\r\n');
  const status = Number(STATUS_LINE.exec(first)?.[1]);
  if (Number.isNaN(status)) return { why: 'the status line is not one of HTTP/1.1' };
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const line of lines) {
    const match = HEADER_LINE.exec(line);
    if (match === null) return { status, why: 'a header line is malformed' };
    const name = match[1]!.toLowerCase();
    const value = match[2]!.trimEnd();
    const known = headers[name];
    if (known !== undefined && SAID_ONCE.has(name)) return { status, why: `${name} came twice` };
    headers[name] = known === undefined ? value : `${known}, ${value}`;
  }
  const bodyBytes = bodyBytesOf({ status, headers, method });
  if (typeof bodyBytes === 'string') return { status, why: bodyBytes };
  const keepsConnection = !/\bclose\b/i.test(headers['connection'] ?? '');
  return { status, headers, bodyBytes, keepsConnection };
}

/** Or why that is not certain. */
function bodyBytesOf(answer: {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly method: HttpMethod;
}): number | string {
  const { status, headers, method } = answer;
  if (status < 200) return 'an interim answer';
  if (status >= 300 && status < 400 && status !== 304) return 'a redirection';
  if (headers['transfer-encoding'] !== undefined) return 'the body has a transfer encoding';
  if (method === 'HEAD' || status === 204 || status === 304) return 0;
  const length = headers['content-length'];
  if (length === undefined) return 'the body has no length';
  const bytes = /^\d{1,16}$/.test(length) ? Number(length) : NaN;
  return Number.isSafeInteger(bytes) ? bytes : 'the length of the body is no number';
}
