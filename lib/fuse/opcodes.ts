/**
 * The numbers of requests, notifications and flags of the FUSE kernel protocol, version 7.45.
 * Source: include/uapi/linux/fuse.h of the kernel. Numbers never change between versions, they are only added.
 */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

export const OPCODE_MAX = 53;

const names = new Map<number, string>(
  Object.entries(Opcode).map(([name, opcode]) => [opcode, name.toLowerCase()]),
);

/** The lower-case name of a request, such as `lookup`; `unknown` for a number that is not in the list. */
export function operationName(opcode: number): string {
  return names.get(opcode) ?? 'unknown';
}

/** Every request that would change the file system. */
export const CHANGES: ReadonlySet<number> = new Set([
  Opcode.SETATTR,
  Opcode.SYMLINK,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.LINK,
  Opcode.WRITE,
  Opcode.SETXATTR,
  Opcode.REMOVEXATTR,
  Opcode.CREATE,
  Opcode.FALLOCATE,
  Opcode.RENAME2,
  Opcode.COPY_FILE_RANGE,
  Opcode.TMPFILE,
  Opcode.COPY_FILE_RANGE_64,
]);

/** Codes of messages from us to the kernel that answer no request. */
export const Notification = { INVAL_INODE: 2, INVAL_ENTRY: 3, INC_EPOCH: 8 } as const;

/** First protocol minor version with `INC_EPOCH`. */
export const INC_EPOCH_MINOR = 44;

/** Flags of an open reply. */
export const OpenFlag = { DIRECT_IO: 1, KEEP_CACHE: 2, CACHE_DIR: 8, NOFLUSH: 32, PASSTHROUGH: 128 } as const;

/** In `getattr_flags`: the handle field is valid. */
export const GETATTR_HANDLE = 1;
