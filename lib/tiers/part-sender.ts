/**
 * The contract of sending: ranges of files of this process become parts of multipart uploads.
 *
 * Guarantees: what is told of a part (checksums, entity tag) is true of the bytes that the store was sent, whatever
 * happens to the file meanwhile; a request settles only when nothing reads from its descriptor any more, so the caller
 * may close it; retries and deadlines are the sender's.
 */
import type { PartRange } from './part-geometry.ts';

/** Where parts go. */
export interface PartsUpload {
  readonly storeUrl: string;
  readonly objectKey: string;
  /** The store's own identity of it. */
  readonly storeUpload: string;
}

/** A program waits for `through`; `back` is sent behind its back, within a budget, and never in its way. */
export type SendUrgency = 'through' | 'back';

export interface PartToSend {
  readonly upload: PartsUpload;
  readonly part: PartRange;
  readonly descriptor: number;
  readonly blockBytes: number;
  /** What was told of this part when it was sent to this upload before: it is sent again only if it has changed. */
  readonly known: SentPart | undefined;
  readonly urgency: SendUrgency;
}

export interface SentPart {
  readonly range: PartRange;
  /** CRC-32 (node:zlib) of each block, in order. */
  readonly blockChecksums: readonly number[];
  readonly entityTag: string;
}

export interface PartSender {
  /**
   * @throws TierError `stale`: the store knows no such upload any more, or the file is shorter now; `sink`: the file
   * cannot be read; the signal's reason
   */
  send(part: PartToSend, options?: { readonly signal?: AbortSignal }): Promise<SentPart>;
  /** While programs write, what is sent behind their backs is sent one part at a time. */
  yieldToWriters(isWriting: boolean): void;
  close(): Promise<void>;
}
