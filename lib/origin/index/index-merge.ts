/**
 * What a finding in the store makes of a row of the index; pure.
 *
 * A finding by listing tells neither metadata nor whether a directory of the same name follows; one by the object
 * itself tells all. A row is **displaced** when its bytes do not lie at the key that its path makes (a rename that is
 * still to be carried out in the store): what a listing shows at that key is then not about the row.
 */
import type { CarriedAttributes, Evidence, Found, IndexedInode, IndexedVersion } from './index-rows.ts';

const NS_PER_S = 1_000_000_000n;

export type Merge =
  /** Neither a row nor a finding. */
  | { readonly kind: 'none' }
  | { readonly kind: 'insert'; readonly found: Found }
  /** Nothing new; `met`: it is evidence that the row is still there; `storedS`: when the object was put, learnt now. */
  | { readonly kind: 'keep'; readonly met: boolean; readonly storedS?: number | undefined }
  | {
      readonly kind: 'update';
      readonly found: Found;
      readonly attributes: CarriedAttributes;
      /** What a satellite is told would differ; else only what the index knows about its own certainty. */
      readonly visible: boolean;
    }
  /** Another kind: another inode. */
  | { readonly kind: 'replace'; readonly found: Found }
  | { readonly kind: 'remove' };

export function merge(
  existing: IndexedInode | undefined,
  found: Found | undefined,
  at: { readonly evidence: Evidence; readonly naturalKey: string },
): Merge {
  if (existing === undefined) return found === undefined ? { kind: 'none' } : { kind: 'insert', found };
  if (found === undefined) return { kind: 'remove' };
  if (at.evidence === 'listing') {
    if (isDisplaced(existing, at.naturalKey)) return { kind: 'keep', met: true };
    if (isOldNews(existing, found)) {
      // An object beside a directory of its name is hidden, and no evidence for the directory.
      if (found.kind === 'directory' || existing.kind === 'directory') {
        return { kind: 'keep', met: found.kind === 'directory' };
      }
      const isNew = existing.version?.storedS === undefined;
      return { kind: 'keep', met: true, storedS: isNew ? found.version.storedS : undefined };
    }
  }
  // Until its object was asked, nobody was told whether this is a symlink.
  const sameKind =
    existing.kind === found.kind ||
    (existing.kind !== 'directory' && found.kind !== 'directory' && !existing.resolved);
  if (!sameKind) return { kind: 'replace', found };
  const attributes = at.evidence === 'commit' ? found.attributes : attributesOver(existing, found);
  const visible =
    existing.kind !== found.kind ||
    !sameAttributes(existing, attributes) ||
    (found.kind !== 'directory' &&
      (!sameContent(existing.version, found.version) || existing.target !== found.target));
  return { kind: 'update', found, attributes, visible };
}

/** Whether the bytes of a file lie elsewhere than at the key of its path. */
export function isDisplaced({ version }: IndexedInode, naturalKey: string): boolean {
  return version !== undefined && version.objectKey !== naturalKey;
}

/** A version keeps its identity when its object gets another key, so contents are compared by what the store tells. */
export function sameContent(a: IndexedVersion | undefined, b: IndexedVersion): boolean {
  return a?.objectKey === b.objectKey && a.entityTag === b.entityTag && a.sizeBytes === b.sizeBytes;
}

/** A listing tells nothing new about this row. */
function isOldNews(existing: IndexedInode, found: Found): boolean {
  if (existing.kind === 'directory') return true;
  if (found.kind === 'directory' || !sameContent(existing.version, found.version)) return false;
  // The same bytes put again: the metadata may be others.
  return wasStoredThen(existing.version, found.version);
}

function wasStoredThen(known: IndexedVersion | undefined, found: IndexedVersion): boolean {
  return known?.storedS === undefined || known.storedS === found.storedS;
}

/** Stores tell times in different precision by listing and by object: while the version stays, the finer one does. */
function attributesOver(before: IndexedInode, found: Found): CarriedAttributes {
  if (found.kind === 'directory') {
    if (!found.marked || before.isOwn === true) return before;
    // Its entries' changes move a directory's times, and its marker does not know of them: they never go back.
    return {
      ...found.attributes,
      modifiedNs: later(before.modifiedNs, found.attributes.modifiedNs),
      changedNs: later(before.changedNs, found.attributes.changedNs),
    };
  }
  if (!sameContent(before.version, found.version)) return found.attributes;
  const isSamePut = wasStoredThen(before.version, found.version);
  if (before.isOwn === true && isSamePut) return before;
  const isSameSecond = before.changedNs / NS_PER_S === found.attributes.changedNs / NS_PER_S;
  return {
    ...found.attributes,
    modifiedNs: finer(before.modifiedNs, found.attributes.modifiedNs),
    // What was put by us was not put when the store says, but when we say.
    changedNs:
      isSamePut && !isSameSecond ? before.changedNs : finer(before.changedNs, found.attributes.changedNs),
  };
}

function sameAttributes(a: CarriedAttributes, b: CarriedAttributes): boolean {
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs &&
    a.extended === b.extended
  );
}

function finer(before: bigint, now: bigint): bigint {
  const isSameSecond = before / NS_PER_S === now / NS_PER_S;
  return isSameSecond && now % NS_PER_S === 0n ? before : now;
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
