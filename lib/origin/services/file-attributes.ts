/** Attributes of files as they travel: checked, and turned into what the index keeps and what an object carries. */
import type { FileAttributes } from '../../rpc/gen/origin_pb.js';
import type { ObjectMetadata } from '../../store/object-store.ts';
import { formatPosixMetadata, type PosixKind } from '../../store/posix-metadata.ts';
import type { CarriedMetadata } from '../changes/writes.ts';
import type { CarriedAttributes } from '../index/index-rows.ts';
import { OriginError } from '../origin.ts';
import { changeExtended, extendedMetadata } from '../tree/extended-attributes.ts';

/** 2^32 - 1 means "no change" to chown. */
const ID_MAX = 2 ** 32 - 2;
const TARGET_BYTES_MAX = 4_095;

/** What an object is given that is made with these attributes. @throws OriginError `invalid` */
export function metadataOf(kind: PosixKind, attributes: FileAttributes | undefined): ObjectMetadata {
  const { mode, uid, gid, modifiedNs, target } = attributes ?? {};
  check(attributes);
  return formatPosixMetadata({
    kind,
    ...(mode === undefined ? {} : { mode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(modifiedNs === undefined ? {} : { modifiedNs }),
    ...(target === undefined ? {} : { symlinkTarget: target }),
  });
}

/** @throws OriginError `invalid`, `no-space` */
export function changedAttributes(
  before: CarriedAttributes,
  changes: FileAttributes | undefined,
): CarriedAttributes {
  if (changes === undefined) return before;
  check(changes);
  return {
    mode: changes.mode ?? before.mode,
    uid: changes.uid ?? before.uid,
    gid: changes.gid ?? before.gid,
    modifiedNs: changes.modifiedNs ?? before.modifiedNs,
    changedNs: before.changedNs,
    extended: changeExtended(before.extended, changes),
  };
}

export function carriedMetadata(attributes: CarriedAttributes): CarriedMetadata {
  const { mode, uid, gid, modifiedNs, extended } = attributes;
  const carried = extendedMetadata(extended);
  const metadata = formatPosixMetadata({
    kind: 'file',
    modifiedNs,
    ...(mode === undefined ? {} : { mode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  const isWhole = extended === undefined || Object.keys(carried).length > 0;
  return { metadata: { ...metadata, ...carried }, isWhole };
}

function check(attributes: FileAttributes | undefined): void {
  const { mode, uid, gid, target } = attributes ?? {};
  const refuse = (what: string): never => {
    throw new OriginError('invalid', `the ${what} makes no sense`);
  };
  if (mode !== undefined && mode > 0o7777) refuse(`mode ${mode.toString(8)}`);
  if (uid !== undefined && uid > ID_MAX) refuse(`owner ${uid}`);
  if (gid !== undefined && gid > ID_MAX) refuse(`group ${gid}`);
  if (target === undefined) return;
  const isPath = target !== '' && !target.includes('\0') && target.isWellFormed();
  if (!isPath || Buffer.byteLength(target) > TARGET_BYTES_MAX) refuse('target of the symlink');
}
