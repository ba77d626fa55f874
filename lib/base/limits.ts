/**
 * Every limit of the system that more than one folder must know, in one place; relations between them are
 * asserted at the end. A limit of one folder alone lives there, named in the same way.
 */
import { invariant } from './errors.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Bytes of one name; POSIX NAME_MAX. */
export const NAME_BYTES_MAX = 255;
/** Unit of fetching, accounting and checksums (design: 4 MiB). */
export const BLOCK_BYTES_DEFAULT = 4 * MIB;
/** One FUSE read; the kernel's ceiling is 256 pages. */
export const FUSE_READ_BYTES_MAX = 1 * MIB;
/** What programs see as st_blksize: makes readers ask in large pieces. */
export const PREFERRED_IO_BYTES = 1 * MIB;
/** A file up to this size is fetched whole inside open. */
export const WHOLE_ON_OPEN_BYTES_DEFAULT = 8 * MIB;
/** Deadline of one request to the origin. */
export const ORIGIN_DEADLINE_MS = 10_000;
/** Deadline of one answer to a program that waits for the object store, retries included. */
export const STORE_DEADLINE_MS = 60_000;
/** How long an operation on a name waits for an origin that cannot be reached. */
export const PARTITION_WAIT_MS_DEFAULT = 30_000;
/** A file up to this size travels inside its commit, and the origin puts it with one call of the store. */
export const INLINE_BYTES_MAX = 128 * KIB;
/** Entries in one page of a directory listing between satellite and origin. */
export const LIST_PAGE_ENTRIES = 1_000;

invariant(BLOCK_BYTES_DEFAULT % FUSE_READ_BYTES_MAX === 0, 'a block holds a whole number of FUSE reads');
invariant(WHOLE_ON_OPEN_BYTES_DEFAULT >= BLOCK_BYTES_DEFAULT, 'a one-block file is fetched whole');
