/** The extended attributes that show how a file is held: `getfattr -d` prints them. Read-only. */
import { Errno } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import type { InodeKind } from '../namespace/namespace.ts';

export interface HeldState {
  readonly kind: InodeKind;
  readonly version: string | undefined;
  /** Bytes of the blob that are present. */
  readonly cachedBytes: () => number;
  /** What lets the names around it be used without asking. */
  readonly lease: () => string;
  readonly mode: () => 'passthrough' | 'served';
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

export function extendedAttributeNames(kind: InodeKind): readonly string[] {
  return Object.keys(known(kind));
}

/** @throws ErrnoError ENODATA */
export function extendedAttribute(name: string, state: HeldState): Uint8Array {
  const table = known(state.kind);
  const read = Object.hasOwn(table, name) ? table[name] : undefined;
  if (read === undefined) throw new ErrnoError(Errno.ENODATA, `no attribute ${name}`);
  return Buffer.from(read(state), 'utf8');
}
