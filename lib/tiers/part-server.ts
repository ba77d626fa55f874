/**
 * The worker's side of sending: reads a part of a file, and uploads it unless it is what was sent before.
 *
 * The bytes that are checked are the bytes that are sent: both come from one reading into memory of ours.
 */
import type { ObjectStore } from '../store/object-store.ts';
import { BlockChecksums } from './block-checksums.ts';
import type { FromFetchWorker, SendCommand } from './fetch-protocol.ts';
import type { PartBuffers } from './part-buffers.ts';
import { sourceErrorOf, tierErrorOf } from './tier-errors.ts';
import { TierError } from './tier.ts';

/** Fills `into` from a position of an open descriptor; answers with how many bytes there were. */
export type ReadAt = (descriptor: number, into: Uint8Array, position: number) => Promise<number>;

export type Sent = Omit<Extract<FromFetchWorker, { kind: 'sent' }>, 'kind' | 'id'>;

export interface SendParts {
  readonly store: ObjectStore;
  readonly readAt: ReadAt;
  readonly buffers: PartBuffers;
  readonly signal: AbortSignal;
}

/** @throws TierError `stale`: there is no such upload any more, or the file has become shorter */
export function sendPart(command: SendCommand, parts: SendParts): Promise<Sent> {
  return parts.buffers.lend(command.part.length, (body) => sendBody(command, body, parts));
}

async function sendBody(
  command: SendCommand,
  body: Buffer,
  { store, readAt, signal }: SendParts,
): Promise<Sent> {
  const { upload, part, descriptor, blockBytes, known, deadlineMs } = command;
  await fill(body, part, (position) => readAt(descriptor, body, position));
  const checksums = new BlockChecksums(blockBytes);
  checksums.add(body);
  const blockChecksums = checksums.finish();
  if (known !== undefined && areSame(known, blockChecksums)) return { blockChecksums, entityTag: undefined };
  signal.throwIfAborted();
  const { key, uploadId } = upload;
  try {
    const { entityTag } = await store.uploadPart({ key, uploadId, partNumber: part.number }, body, {
      signal,
      deadlineMs,
    });
    return { blockChecksums, entityTag };
  } catch (error) {
    throw tierErrorOf(error, `sending part ${part.number} of ${key}`);
  }
}

async function fill(
  body: Buffer,
  { offset, number }: SendCommand['part'],
  read: (position: number) => Promise<number>,
): Promise<void> {
  let filled: number;
  try {
    filled = await read(offset);
  } catch (error) {
    throw sourceErrorOf(error);
  }
  if (filled < body.length)
    throw new TierError('stale', `the file no longer reaches to the end of part ${number}`);
}

function areSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}
