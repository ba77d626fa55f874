/**
 * Extended attributes: those that programs set, and those of ours (`user.perigee.*`) that show how a file is held. Ours
 * are read by name and not listed, so that no program copies them.
 */
import { Errno } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import type { InodeAttributes, InodeKind } from '../namespace/namespace.ts';

export interface HeldState {
  readonly kind: InodeKind;
  readonly version: string | undefined;
  /** Bytes of the blob that are present. */
  readonly cachedBytes: () => number;
  /** What lets the names around it be used without asking. */
  readonly lease: () => string;
  readonly mode: () => 'passthrough' | 'served' | 'dirty';
  /** Names of the policies that decide, most specific first. */
  readonly policies: () => readonly string[];
}

const ofFiles: Record<string, (state: HeldState) => string> = {
  'user.perigee.version': (state) => state.version ?? '',
  'user.perigee.cached': (state) => String(state.cachedBytes()),
  'user.perigee.mode': (state) => state.mode(),
};

const ofAll: Record<string, (state: HeldState) => string> = {
  'user.perigee.lease': (state) => state.lease(),
  'user.perigee.policy': (state) => state.policies().join(',') || 'default',
};

/** The kernel knows no user attributes on symlinks. */
function known(kind: InodeKind): Record<string, (state: HeldState) => string> {
  if (kind === 'symlink') return {};
  return kind === 'file' ? { ...ofFiles, ...ofAll } : ofAll;
}

const OUR_PREFIX = 'user.perigee.';

export function isOurs(name: string): boolean {
  return name.startsWith(OUR_PREFIX);
}

/** @throws ErrnoError ENODATA */
export function ourAttribute(name: string, state: HeldState): Uint8Array {
  const table = known(state.kind);
  const read = Object.hasOwn(table, name) ? table[name] : undefined;
  if (read === undefined) throw noAttribute(name);
  return Buffer.from(read(state), 'utf8');
}

/** Of those that programs set. @throws ErrnoError ENODATA */
export function setAttribute(name: string, { extended = {} }: InodeAttributes): Uint8Array {
  const value = Object.hasOwn(extended, name) ? extended[name] : undefined;
  if (value === undefined) throw noAttribute(name);
  return value;
}

export function noAttribute(name: string): ErrnoError {
  return new ErrnoError(Errno.ENODATA, `no attribute ${name}`);
}
