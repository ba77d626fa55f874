/** What tests of staging write, journal and seal. */
import { crc32 } from 'node:zlib';
import type { JournalEntry, SealOptions, StagedFile } from '../../cache/staging/staging.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import { sourceOf } from './fake-tier.ts';

/** The identity of a write, made of a small number. */
export function writeOf(number: number): string {
  return `write-${number}`;
}

export function entryOf(number: number, changes: Partial<JournalEntry> = {}): JournalEntry {
  return {
    grant: {
      write: writeOf(number),
      token: 2n ** 60n + BigInt(number),
      exportName: 'main',
      inode: BigInt(1000 + number) as InodeNumber,
    },
    path: `run/checkpoint-${number}.pt`,
    attributes: {
      mode: 0o640,
      uid: 1,
      gid: 2,
      extended: { 'user.note': Uint8Array.of(0, 255, number) },
    },
    isCommitted: false,
    state: 'synced',
    publication: 0,
    committed: undefined,
    sinceMs: 1_700_000_000_000 + number,
    ...changes,
  };
}

/** To seal a file as it is now, as the version of that number. */
export function sealingOf(
  file: StagedFile,
  as: { readonly number: number; readonly bytes: Uint8Array; readonly blockBytes: number },
): SealOptions & { readonly source: VersionSource } {
  const { sizeBytes, modifiedNs, changedNs } = file.stat();
  const blockChecksums: number[] = [];
  for (let at = 0; at < as.bytes.length; at += as.blockBytes) {
    blockChecksums.push(crc32(as.bytes.subarray(at, at + as.blockBytes)));
  }
  return {
    source: sourceOf(as.number, as.bytes.length),
    inode: BigInt(1000 + as.number) as InodeNumber,
    path: `run/checkpoint-${as.number}.pt`,
    blockChecksums,
    committed: { sizeBytes, modifiedNs, changedNs },
  };
}
