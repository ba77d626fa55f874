/** A tree of files as plain data: what the conformance list expects, and what a caller writes to a directory or a bucket. */
export interface TreeEntry {
  /** Relative to the root, without a leading slash; parents come before their children. */
  readonly path: string;
  readonly kind: 'directory' | 'file' | 'symlink';
  /** Permission bits. */
  readonly mode: number;
  readonly modifiedMs: number;
  /** Files: the content is `contentOf(entry)`. */
  readonly sizeBytes?: number;
  /** Symlinks. */
  readonly target?: string;
}

const MODIFIED_MS = Date.UTC(2024, 1, 29, 12, 34, 56);

const file = (path: string, sizeBytes: number, mode = 0o644): TreeEntry => ({
  path,
  kind: 'file',
  mode,
  modifiedMs: MODIFIED_MS,
  sizeBytes,
});
const directory = (path: string, mode = 0o755): TreeEntry => ({
  path,
  kind: 'directory',
  mode,
  modifiedMs: MODIFIED_MS,
});
const symlink = (path: string, target: string): TreeEntry => ({
  path,
  kind: 'symlink',
  mode: 0o777,
  modifiedMs: MODIFIED_MS,
  target,
});

/** Files in the directory `many`. */
export const MANY_FILES = 3_000;
export const LONG_NAME = 'n'.repeat(255);
/** 255 bytes of UTF-8 in 85 characters. */
export const LONG_UNICODE_NAME = '語'.repeat(85);

/** Bytes that depend on the path and the position, so that no two files and no two blocks are alike. */
export function contentOf(entry: { readonly path: string; readonly sizeBytes?: number }): Buffer {
  const bytes = Buffer.allocUnsafe(entry.sizeBytes ?? 0);
  let state = 2166136261;
  for (const unit of Buffer.from(entry.path)) state = Math.imul(state ^ unit, 16777619) >>> 0;
  for (let at = 0; at < bytes.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export const conformanceTree: readonly TreeEntry[] = [
  file('empty', 0),
  file('one', 1),
  file('page', 4096),
  file('page-and-one', 4097),
  file('large', 3 * 1024 * 1024 + 17),
  file('private', 100, 0o600),
  file('tool', 200, 0o755),
  directory('nested'),
  directory('nested/deeper'),
  directory('nested/deeper/deepest'),
  file('nested/deeper/deepest/file', 12_345),
  directory('empty-directory'),
  directory('closed', 0o700),
  symlink('link-to-file', 'nested/deeper/deepest/file'),
  symlink('link-to-directory', 'nested/deeper'),
  symlink('nested/link-up', '../page'),
  symlink('dangling', 'no/such/file'),
  symlink('loop-a', 'loop-b'),
  symlink('loop-b', 'loop-a'),
  directory('names'),
  file(`names/${LONG_NAME}`, 10),
  file(`names/${LONG_UNICODE_NAME}`, 11),
  file('names/with space', 12),
  file('names/new\nline', 13),
  file('names/back\\slash', 14),
  file('names/-dash', 15),
  file('names/grüße.txt', 16),
  file('names/gru\u0308ße.txt', 17),
  file('names/🛰', 18),
  file('names/.hidden', 19),
  directory('many'),
  ...Array.from({ length: MANY_FILES }, (_, index) =>
    file(`many/file-${String(index).padStart(6, '0')}`, index % 7),
  ),
];
