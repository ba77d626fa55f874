/**
 * POSIX attributes in the metadata of objects: a second contract file of this folder.
 *
 * Names are those on which existing tools agree. s3fs writes `mode` (decimal, with the file type), `uid`, `gid`,
 * `mtime` and `ctime` in seconds, fractional since 1.86; rclone writes `mtime` as seconds with up to nine decimals.
 * We write `mode`, `uid`, `gid`, `mtime` in the same way, and the target of a symlink as `symlink-target`,
 * percent-encoded, on an object of no bytes. An s3fs symlink is one of mode S_IFLNK whose body is the target.
 * Parsing never throws: a value that makes no sense is as if it were absent.
 */
import { type ObjectMetadata } from './object-store.ts';

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;

export type PosixKind = 'file' | 'directory' | 'symlink';

export interface PosixAttributes {
  /** From the type bits of `mode` or from a symlink target; undefined where neither tells. */
  readonly kind?: PosixKind;
  /** Permission bits only, 0o7777. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly modifiedNs?: bigint;
  readonly changedNs?: bigint;
  readonly symlinkTarget?: string;
}

/** Largest user or group number, 2^32 - 2; the last one means "unchanged". */
const ID_MAX = 0xfffffffe;
/** Bytes of a symlink's target; PATH_MAX less its final zero. */
const SYMLINK_TARGET_BYTES_MAX = 4095;
const NS_PER_S = 1_000_000_000n;
/** Seconds beyond this are milliseconds or nanoseconds written by mistake. */
const SECONDS_DIGITS_MAX = 12;

export function parsePosixMetadata(metadata: ObjectMetadata): PosixAttributes {
  const mode = decimal(metadata['mode'], 0o177777);
  const uid = decimal(metadata['uid'], ID_MAX);
  const gid = decimal(metadata['gid'], ID_MAX);
  const modifiedNs = seconds(metadata['mtime']);
  const changedNs = seconds(metadata['ctime']);
  const symlinkTarget = target(metadata['symlink-target']);
  const kind = symlinkTarget === undefined ? kindOf(mode) : 'symlink';
  return {
    ...(kind === undefined ? {} : { kind }),
    ...(mode === undefined ? {} : { mode: mode & 0o7777 }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(modifiedNs === undefined ? {} : { modifiedNs }),
    ...(changedNs === undefined ? {} : { changedNs }),
    ...(symlinkTarget === undefined ? {} : { symlinkTarget }),
  };
}

/** The metadata that `parsePosixMetadata` reads back; only what is given is written. */
export function formatPosixMetadata(attributes: PosixAttributes): Record<string, string> {
  const { kind, mode, uid, gid, modifiedNs, changedNs, symlinkTarget } = attributes;
  return {
    ...(mode === undefined ? {} : { mode: String((mode & 0o7777) | typeBits(kind)) }),
    ...(uid === undefined ? {} : { uid: String(uid) }),
    ...(gid === undefined ? {} : { gid: String(gid) }),
    ...(modifiedNs === undefined ? {} : { mtime: formatSeconds(modifiedNs) }),
    ...(changedNs === undefined ? {} : { ctime: formatSeconds(changedNs) }),
    ...(symlinkTarget === undefined ? {} : { 'symlink-target': encodeURIComponent(symlinkTarget) }),
  };
}

function kindOf(mode: number | undefined): PosixKind | undefined {
  if (mode === undefined) return undefined;
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 'file';
    case S_IFDIR:
      return 'directory';
    case S_IFLNK:
      return 'symlink';
    default:
      return undefined;
  }
}

function typeBits(kind: PosixKind | undefined): number {
  switch (kind) {
    case undefined:
      return 0;
    case 'file':
      return S_IFREG;
    case 'directory':
      return S_IFDIR;
    case 'symlink':
      return S_IFLNK;
  }
}

function decimal(text: string | undefined, max: number): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
}

function seconds(text: string | undefined): bigint | undefined {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text ?? '');
  const [, sign, whole, fraction = ''] = match ?? [];
  if (whole === undefined || whole.length > SECONDS_DIGITS_MAX) return undefined;
  const ns = BigInt(whole) * NS_PER_S + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
  return sign === '-' ? -ns : ns;
}

function formatSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = (magnitude % NS_PER_S).toString().padStart(9, '0').replace(/0+$/, '');
  return `${ns < 0n ? '-' : ''}${magnitude / NS_PER_S}${fraction === '' ? '' : `.${fraction}`}`;
}

function target(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    return undefined;
  }
  if (decoded.includes('\0') || Buffer.byteLength(decoded) > SYMLINK_TARGET_BYTES_MAX) return undefined;
  return decoded;
}
