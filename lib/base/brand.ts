/**
 * Branded identities. A brand keeps an inode number from being passed where a node id is meant; it exists
 * only for the type checker and costs nothing at run time.
 */
declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Identity of a file or directory inside one export; 64 bits; survives rename and overwrite. */
export type InodeNumber = Brand<bigint, 'InodeNumber'>;
/** What the kernel calls a node: stands for (inode, version, I/O mode); 64 bits; never reused by one mount. */
export type NodeId = Brand<bigint, 'NodeId'>;
/** One immutable content of an inode: 32 lower-case hexadecimal digits, so it is a safe file name. */
export type VersionId = Brand<string, 'VersionId'>;
/** One satellite's session with one export; not to be guessed, because it stands for the leases that are held. */
export type SessionId = Brand<string, 'SessionId'>;
/** Grows with every start of an origin. */
export type Epoch = Brand<number, 'Epoch'>;

/** The root directory of every export has this inode number. */
export const ROOT_INODE = 1n as InodeNumber;
/** The kernel's number for the root of a mount (FUSE_ROOT_ID in include/uapi/linux/fuse.h). */
export const ROOT_NODE = 1n as NodeId;
