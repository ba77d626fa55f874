/** What tests of the satellite's names are made of. */
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import type { Grant, LeasedName, LeaseReference } from '../../lib/lease/lease.ts';
import type { InodeAttributes, InodeKind } from '../../lib/namespace/namespace.ts';

export const ROOT = 1n as InodeNumber;

export function inodeNumber(number: number | bigint): InodeNumber {
  return BigInt(number) as InodeNumber;
}

/** @param options.size tells contents apart */
export function attributesOf(
  inode: number | bigint,
  options: { readonly kind?: InodeKind; readonly size?: number } = {},
): InodeAttributes {
  const { kind = 'file', size = 0 } = options;
  return {
    inode: inodeNumber(inode),
    kind,
    mode: kind === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    links: 1,
    sizeBytes: size,
    modifiedNs: 0n,
    changedNs: 0n,
    source:
      kind !== 'file'
        ? undefined
        : {
            version: size.toString(16).padStart(32, '0') as VersionId,
            exportName: 'data',
            objectKey: 'key',
            objectVersion: undefined,
            entityTag: `"${size}"`,
            sizeBytes: size,
          },
    target: undefined,
  };
}

export function leaseOn(directory: number | bigint, subtree = false): LeaseReference {
  return { directory: inodeNumber(directory), subtree };
}

export function grantOf(directory: number | bigint, sequence = 0, subtree = false): Grant {
  return { sequence, lease: leaseOn(directory, subtree) };
}

export function leasedName(directory: number | bigint, name: string, attributesOnly = false): LeasedName {
  return { directory: inodeNumber(directory), name, attributesOnly };
}
