/** The only place that turns errors of the file system into `StoreError`s. */
import { StoreError, type StoreErrorCode } from './object-store.ts';

const CODES: Readonly<Record<string, StoreErrorCode>> = {
  ENOENT: 'not-found',
  ENOTDIR: 'not-found',
  EISDIR: 'not-found',
  EACCES: 'access-denied',
  EPERM: 'access-denied',
  EROFS: 'access-denied',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  ENAMETOOLONG: 'invalid-key',
  EILSEQ: 'invalid-key',
  EXDEV: 'unsupported',
};

const HINTS: Partial<Record<StoreErrorCode, string>> = {
  'access-denied': 'check the permissions of the directory and that it is not mounted read-only',
  'no-space': 'free some space on the file system of the store',
  unsupported: 'a directory of the store is a mount point of another file system; export it on its own',
};

export function fileErrorOf(error: unknown, what: string): StoreError {
  if (error instanceof StoreError) return error;
  const errno = errnoOf(error);
  const code = (errno === undefined ? undefined : CODES[errno]) ?? 'unavailable';
  const hint = HINTS[code];
  const text = error instanceof Error ? error.message : String(error);
  return new StoreError(code, `${what}: ${text}`, { cause: error, ...(hint === undefined ? {} : { hint }) });
}

/** The name of the system's error, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Nothing stands at that path: neither the name nor the directory it would be in. */
export function isAbsent(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOENT' || errno === 'ENOTDIR';
}

/** `undefined` where nothing stands at the path; other errors go on. */
export async function unlessAbsent<T>(attempt: Promise<T>): Promise<T | undefined> {
  try {
    return await attempt;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
