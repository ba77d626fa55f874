/** What the flags of open(2) ask for. Numbers from include/uapi/asm-generic/fcntl.h. */
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;

export function truncates(flags: number): boolean {
  return (flags & O_TRUNC) !== 0;
}

export function isExclusive(flags: number): boolean {
  return (flags & O_EXCL) !== 0;
}

/** A file that is emptied is written to, whatever comes after. */
export function writes(flags: number): boolean {
  return (flags & O_ACCMODE) !== O_RDONLY || truncates(flags);
}
