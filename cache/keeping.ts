/** How a blob is to be kept, as somebody says who knows policies; keepings.ts keeps it so. */
/** Equal ones are one object: blobs are many, ways to keep them few. */
export interface Keeping {
  /** When a version is let in: at its first miss, when it is opened again after one, or not at all. */
  readonly admit: 'first-miss' | 'second-miss' | 'never';
  readonly pinned: boolean;
  readonly ttlMs: number | undefined;
  readonly rank: number;
}

export const KEEP_AS_USUAL: Keeping = { admit: 'first-miss', pinned: false, ttlMs: undefined, rank: 0 };

export interface KeptFile {
  readonly exportName: string;
  readonly path: string;
  readonly sizeBytes: number;
}

export type KeepingOf = (file: KeptFile) => Keeping;
