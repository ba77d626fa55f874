/** What an export's URL says: where its bytes are, and the attributes of files whose objects carry none. */
import picomatch from 'picomatch';
import { UsageError } from '../base/errors.ts';
import { durationSchema } from '../config/values.ts';
import type { ExportConfiguration } from './origin.ts';

export interface ExportOptions {
  readonly name: string;
  /** For `openStore` and for satellites: without our parameters; holds no secrets, satellites are told it. */
  readonly storeUrl: string;
  /** Where the objects lie: the URL without parameters, but for the endpoint. */
  readonly identity: string;
  readonly fileMode: number;
  readonly directoryMode: number;
  readonly uid: number;
  readonly gid: number;
  /** `head`: each object is asked for its metadata once, not only those of no bytes. */
  readonly attributes: 'list' | 'head';
  /** Age at which a listed directory is compared with the store again; undefined: nobody else changes the store. */
  readonly revalidateMs: number | undefined;
  /** It takes no changes. */
  readonly readOnly: boolean;
  /** Globs of paths that never change once they are there: satellites need no lease for them. */
  readonly immutable: readonly string[];
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** 2^32 - 1 means "no change" to chown. */
const ID_MAX = 2 ** 32 - 2;
const IMMUTABLE_GLOBS_MAX = 64;
const GLOB_CHARACTERS_MAX = 1_024;
const REVALIDATE_DEFAULT_MS = 30_000;
const REVALIDATE_MIN_MS = 1_000;

/** @throws UsageError */
export function parseExports(configurations: readonly ExportConfiguration[]): ExportOptions[] {
  if (configurations.length === 0) {
    throw new UsageError('an origin needs at least one export', { hint: 'add --export NAME=URL' });
  }
  const exports = configurations.map(parseExport);
  const twice = exports.find(
    ({ name }, index) => exports.findIndex((other) => other.name === name) !== index,
  );
  if (twice !== undefined) {
    throw new UsageError(`export "${twice.name}" is given twice`, {
      hint: 'give each export a name of its own',
    });
  }
  return exports;
}

function parseExport({ name, url: text }: ExportConfiguration): ExportOptions {
  if (!NAME.test(name)) {
    throw new UsageError(`"${name}" cannot be the name of an export`, {
      hint: 'use up to 64 letters, digits, ".", "_" and "-", beginning with a letter or digit',
    });
  }
  if (!URL.canParse(text)) {
    throw new UsageError(`export "${name}": "${text}" is not a URL`, {
      hint: 'write file:///directory or s3://bucket/prefix',
    });
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw new UsageError(`export "${name}": its URL must not hold credentials`, {
      hint: 'each origin and satellite has its own, from its environment, a profile or its role',
    });
  }
  const take = (key: string): string | undefined => {
    const value = url.searchParams.get(key) ?? undefined;
    url.searchParams.delete(key);
    return value;
  };
  const number = (
    key: string,
    rule: { readonly radix: 8 | 10; readonly max: number; readonly fallback: number },
  ) => {
    const value = take(key);
    if (value === undefined) return rule.fallback;
    const parsed = (rule.radix === 8 ? /^[0-7]{1,5}$/ : /^\d{1,10}$/).test(value)
      ? parseInt(value, rule.radix)
      : NaN;
    if (parsed <= rule.max) return parsed;
    throw new UsageError(`export "${name}": ${key}=${value} makes no sense`, {
      hint:
        rule.radix === 8 ? 'write an octal mode, for example 0644' : `write a number from 0 to ${rule.max}`,
    });
  };
  const fileMode = number('mode', { radix: 8, max: 0o7777, fallback: 0o644 });
  const directoryMode = number('dirMode', { radix: 8, max: 0o7777, fallback: 0o755 });
  const uid = number('uid', { radix: 10, max: ID_MAX, fallback: 0 });
  const gid = number('gid', { radix: 10, max: ID_MAX, fallback: 0 });
  // Asking a directory of this host costs little, asking a server a round trip an object.
  const attributes = take('attributes') ?? (url.protocol === 'file:' ? 'head' : 'list');
  if (attributes !== 'list' && attributes !== 'head') {
    throw new UsageError(`export "${name}": attributes=${attributes} makes no sense`, {
      hint: 'write attributes=list or attributes=head',
    });
  }
  const flag = (key: string, meaning: string): boolean => {
    const value = take(key) ?? 'false';
    if (value === 'true' || value === 'false') return value === 'true';
    throw new UsageError(`export "${name}": ${key}=${value} makes no sense`, {
      hint: `write ${key}=true if ${meaning}, else ${key}=false`,
    });
  };
  const isExclusive = flag('exclusive', 'nobody but this origin changes the store');
  const readOnly = flag('readOnly', 'nobody may change files');
  const age = take('revalidate');
  const ageMs = age === undefined ? REVALIDATE_DEFAULT_MS : durationOf(age);
  if (ageMs === undefined || (age !== undefined && isExclusive)) {
    throw new UsageError(`export "${name}": revalidate=${age} makes no sense`, {
      hint: 'write a duration from 1s such as revalidate=30s, without exclusive=true',
    });
  }
  const revalidateMs = isExclusive ? undefined : ageMs;
  const immutable = url.searchParams.getAll('immutable');
  url.searchParams.delete('immutable');
  const badGlob = immutable.find((glob) => !isGlob(glob));
  if (badGlob !== undefined || immutable.length > IMMUTABLE_GLOBS_MAX) {
    throw new UsageError(`export "${name}": immutable=${badGlob ?? '…'} makes no sense`, {
      hint: `write up to ${IMMUTABLE_GLOBS_MAX} globs relative to the export, such as immutable=train/** (escape & as %26)`,
    });
  }
  const storeUrl = url.href;
  const endpoint = url.searchParams.get('endpoint');
  url.search = '';
  if (endpoint !== null) url.searchParams.set('endpoint', endpoint);
  return {
    name,
    storeUrl,
    identity: url.href,
    fileMode,
    directoryMode,
    uid,
    gid,
    attributes,
    revalidateMs,
    readOnly,
    immutable,
  };
}

function durationOf(text: string): number | undefined {
  const parsed = durationSchema({ minMs: REVALIDATE_MIN_MS }).safeParse(text);
  return parsed.success ? parsed.data : undefined;
}

function isGlob(text: string): boolean {
  if (text === '' || text.startsWith('/') || text.length > GLOB_CHARACTERS_MAX) return false;
  try {
    return picomatch.makeRe(text, { dot: true }) instanceof RegExp;
  } catch {
    return false;
  }
}
