/** What stat shows of an inode, and the permission check for drivers that leave it to us. Pure. */
import type { WorkingAttributes, WorkingStat } from '../../cache/working-copy.ts';
import { PREFERRED_IO_BYTES } from '../base/limits.ts';
import type { NodeAttributes, RequestContext } from '../fuse/operations.ts';
import type { InodeAttributes, InodeKind } from '../namespace/namespace.ts';

/** S_IFMT bits of st_mode, from include/uapi/linux/stat.h. */
const TYPE_BITS: Record<InodeKind, number> = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
};
const PERMISSION_MASK = 0o7777;
/** Of access(2). */
const WANT_EXECUTE = 1;
export const WANT_WRITE = 2;

/** DT_* of a directory record. */
export function directoryType(kind: InodeKind): number {
  return TYPE_BITS[kind] >> 12;
}

/** What is shown beside the inode's own attributes. */
export interface ShownBeside {
  /** No name is left: st_nlink is 0, as for an unlinked file that is still open. */
  readonly gone?: boolean;
  readonly accessedNs?: bigint | undefined;
}

export function nodeAttributes(attributes: InodeAttributes, options: ShownBeside = {}): NodeAttributes {
  const { kind, target } = attributes;
  const linksMin = kind === 'directory' ? 2 : 1;
  return {
    inode: attributes.inode,
    sizeBytes: target === undefined ? attributes.sizeBytes : Buffer.byteLength(target),
    modifiedNs: attributes.modifiedNs,
    // Reading changes nothing here: mounts behave as with noatime.
    accessedNs: options.accessedNs ?? attributes.modifiedNs,
    changedNs: attributes.changedNs,
    mode: TYPE_BITS[kind] | (attributes.mode & PERMISSION_MASK),
    links: options.gone === true ? 0 : Math.max(attributes.links, linksMin),
    uid: attributes.uid,
    gid: attributes.gid,
    device: 0,
    blockBytes: PREFERRED_IO_BYTES,
  };
}

/** Of a file that is being written: the inode as its next version would make it. */
export function workingAttributes(
  attributes: InodeAttributes,
  { attributes: own, stat }: { readonly attributes: WorkingAttributes; readonly stat: WorkingStat },
): InodeAttributes {
  const { sizeBytes, modifiedNs, changedNs } = stat;
  return { ...attributes, ...own, sizeBytes, modifiedNs, changedNs };
}

/** For the reply that there is no such name; the kernel looks at the node number only. */
export const NO_ATTRIBUTES: NodeAttributes = {
  inode: 0n,
  sizeBytes: 0,
  modifiedNs: 0n,
  accessedNs: 0n,
  changedNs: 0n,
  mode: 0,
  links: 0,
  uid: 0,
  gid: 0,
  device: 0,
  blockBytes: PREFERRED_IO_BYTES,
};

/** The permission bits decide, as POSIX says; the groups of a caller beyond its first are not known. */
export function isPermitted(
  attributes: InodeAttributes,
  mask: number,
  caller: Pick<RequestContext, 'uid' | 'gid'>,
): boolean {
  const { mode, uid, gid, kind } = attributes;
  if (caller.uid === 0) {
    const executable = kind === 'directory' || (mode & 0o111) !== 0;
    return (mask & WANT_EXECUTE) === 0 || executable;
  }
  const bits = caller.uid === uid ? mode >> 6 : caller.gid === gid ? mode >> 3 : mode;
  return (mask & ~bits & 7) === 0;
}
