/**
 * What an origin's answers and failures say, checked: an answer that makes no sense (another release, a fault, a wrong server) is a
 * `protocol` error, never wrong data. Pure.
 */
import type { InodeNumber, VersionId } from '../base/brand.ts';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import type { Inode } from '../rpc/gen/origin_pb.js';
import type { VersionSource } from '../tiers/tier.ts';
import { RpcError, type RpcErrorCode } from '../rpc/rpc-errors.ts';
import {
  type InodeAttributes,
  type InodeKind,
  NamespaceError,
  type NamespaceErrorCode,
} from './namespace.ts';

/** 2^32 - 1 is no owner: it means "unchanged". */
const ID_MAX = 0xffff_ffff;
const EXTENDED_PREFIX = 'user.';

/**
 * @param options.isPending a file that was just made has no version
 * @throws NamespaceError `protocol`; so do all of these
 */
export function attributesOf(
  inode: Inode | undefined,
  exportName: string,
  { isPending = false }: { readonly isPending?: boolean } = {},
): InodeAttributes {
  check(inode !== undefined, 'an answer has the inode');
  const { kind, version, target } = inode;
  check(isKind(kind), 'an inode is a file, a directory or a symlink');
  check(inode.inode > 0n, 'an inode number is positive');
  check(inode.mode <= 0o7777, 'a mode has permission bits only');
  check(inode.uid < ID_MAX && inode.gid < ID_MAX, 'an owner is a number below the largest');
  const hasVersion = kind === 'file' && !isPending;
  check(hasVersion === (version !== undefined), 'files have a version, and nothing else has');
  check((kind === 'symlink') === (target !== undefined), 'symlinks have a target, and nothing else has');
  check(target !== '' && target?.includes('\0') !== true, 'a target is a path');
  const source = version === undefined ? undefined : sourceOf(version, exportName);
  const sizeBytes = safeNumber(inode.sizeBytes);
  check(sizeBytes === (isPending ? 0 : (source?.sizeBytes ?? sizeBytes)), 'a file is as long as its version');
  const extended = Object.entries(inode.extended);
  check(
    extended.every(([name]) => name.startsWith(EXTENDED_PREFIX)),
    'extended attributes are those of users',
  );
  return {
    inode: inode.inode as InodeNumber,
    kind,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    links: inode.links,
    sizeBytes,
    modifiedNs: inode.modifiedNs,
    changedNs: inode.changedNs,
    source,
    target,
    ...(extended.length > 0 && { extended: Object.fromEntries(extended) }),
  };
}

function sourceOf(version: NonNullable<Inode['version']>, exportName: string): VersionSource {
  check(/^[0-9a-f]{32}$/.test(version.id), 'a version id is 32 hexadecimal digits');
  check(version.objectKey !== '' && version.entityTag !== '', 'a version has a key and an entity tag');
  return {
    version: version.id as VersionId,
    exportName,
    objectKey: version.objectKey,
    objectVersion: version.objectVersion,
    entityTag: version.entityTag,
    sizeBytes: safeNumber(version.sizeBytes),
  };
}

function isKind(kind: string): kind is InodeKind {
  return kind === 'file' || kind === 'directory' || kind === 'symlink';
}

export function safeNumber(number: bigint): number {
  check(number >= 0n && number <= BigInt(Number.MAX_SAFE_INTEGER), 'a number fits 53 bits');
  return Number(number);
}

export function checkName(name: string): void {
  const fits = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);
  check(fits && Buffer.byteLength(name) <= NAME_BYTES_MAX, 'a name can be a name');
}

export function check(condition: unknown, sentence: string): asserts condition {
  if (condition) return;
  throw new NamespaceError('protocol', `the origin's answer makes no sense: ${sentence}`, {
    hint: 'run the same release on the origin and on this host',
  });
}

/** What a call's failure means for names. The reason of the caller's own signal passes as it is. */
export async function translated<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw new NamespaceError(meanings[error.code], error.message, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}

const meanings: Readonly<Record<RpcErrorCode, NamespaceErrorCode>> = {
  'not-found': 'not-found',
  'not-directory': 'not-directory',
  'is-directory': 'is-directory',
  exists: 'exists',
  'not-empty': 'not-empty',
  busy: 'busy',
  fenced: 'fenced',
  'upload-gone': 'upload-gone',
  'no-space': 'no-space',
  'read-only': 'read-only',
  denied: 'denied',
  timeout: 'timeout',
  unavailable: 'unavailable',
  invalid: 'invalid',
  unsupported: 'protocol',
  protocol: 'protocol',
  failed: 'protocol',
  listen: 'protocol',
};
