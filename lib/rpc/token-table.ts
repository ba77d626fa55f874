/**
 * The tokens that an origin accepts: a YAML list, each entry with `token` (or its `sha256`), `tenant`, `role` and, if
 * the token belongs to one, `host`.
 *
 * Guarantees: only digests are kept; a presented token is compared with every entry in constant time; an error never
 * repeats a token.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { parse } from 'yaml';
import { z } from 'zod';
import { UsageError } from '../base/errors.ts';
import { type Role, ROLES, TENANT_NAME } from '../config/access-lists.ts';
import { HOST_NAME } from './principal.ts';

/** Shorter ones can be guessed. */
const TOKEN_CHARACTERS_MIN = 16;
const TOKENS_MAX = 10_000;

/** What a token says of its bearer. */
export interface Bearer {
  readonly tenant: string;
  /** Absent: whichever host shows it. */
  readonly host: string | undefined;
  readonly role: Role;
}

const entrySchema = z
  .strictObject({
    token: z.string().min(TOKEN_CHARACTERS_MIN).regex(/^\S+$/).optional(),
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/i)
      .optional(),
    tenant: z.string().regex(TENANT_NAME),
    host: z.string().regex(HOST_NAME).optional(),
    role: z.enum(ROLES),
  })
  .refine(({ token, sha256 }) => (token === undefined) !== (sha256 === undefined));

export class TokenTable {
  readonly #entries: { readonly digest: Buffer; readonly bearer: Bearer }[] = [];

  /** @throws UsageError */
  constructor(text: string) {
    for (const [index, entry] of entriesOf(text).entries()) {
      const parsed = entrySchema.safeParse(entry);
      if (!parsed.success) throw refuse(`entry ${index + 1} ${faultOf(parsed.error)}`);
      const { token, sha256, tenant, host, role } = parsed.data;
      const digest = token === undefined ? Buffer.from(sha256 ?? '', 'hex') : digestOf(token);
      if (this.#find(digest) !== undefined) throw refuse(`entry ${index + 1} has the token of another entry`);
      this.#entries.push({ digest, bearer: { tenant, host, role } });
    }
  }

  find(token: string): Bearer | undefined {
    return this.#find(digestOf(token));
  }

  /** Looks at all entries, so that the time tells nothing. */
  #find(digest: Buffer): Bearer | undefined {
    let found: Bearer | undefined;
    for (const entry of this.#entries) {
      if (timingSafeEqual(entry.digest, digest)) found = entry.bearer;
    }
    return found;
  }
}

function entriesOf(text: string): unknown[] {
  let parsed: unknown;
  try {
    parsed = parse(text, { prettyErrors: false });
  } catch {
    // What YAML says of it may quote a token.
    throw refuse('it is not YAML');
  }
  if (!Array.isArray(parsed)) throw refuse('it is not a list');
  if (parsed.length > TOKENS_MAX) throw refuse(`it has over ${TOKENS_MAX} entries`);
  return parsed;
}

function faultOf(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue?.code === 'unrecognized_keys')
    return `has an unknown ${issue.keys.length === 1 ? 'key' : 'keys'}`;
  const key = issue?.path[0];
  if (key === 'token') return `has a token of less than ${TOKEN_CHARACTERS_MIN} characters, or with spaces`;
  return key === undefined ? 'has not exactly one of token and sha256' : `has no valid ${String(key)}`;
}

function refuse(fault: string): UsageError {
  return new UsageError(`the file of tokens is refused: ${fault}`, {
    hint: 'write entries such as: - {token: 32-random-characters, tenant: research, host: gpu-1, role: read}',
  });
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
