/**
 * Sends a stream to an object store as the parts of a multipart upload.
 *
 * Parts go in parallel while the stream is read on, within a bound of memory. The first failure ends it.
 */
import { MIB } from '../base/limits.ts';
import type { ObjectStore, UploadedPart } from '../store/object-store.ts';
import { partAt } from '../tiers/part-geometry.ts';

/** Of parts that are being sent; one larger than this is sent alone. */
const SENDING_BYTES_MAX = 64 * MIB;

export interface UploadedParts {
  readonly parts: readonly UploadedPart[];
  readonly sizeBytes: number;
}

/** An empty stream has no parts. @throws StoreError, and what reading throws */
export async function uploadParts(
  upload: { readonly store: ObjectStore; readonly key: string; readonly uploadId: string },
  content: AsyncIterable<Uint8Array>,
  onSent: (bytes: number) => void,
): Promise<UploadedParts> {
  const { store, key, uploadId } = upload;
  const parts: UploadedPart[] = [];
  const sending = new Set<Promise<void>>();
  const stop = new AbortController();
  let sendingBytes = 0;
  let sizeBytes = 0;
  let number = 0;
  const send = async (body: Uint8Array): Promise<void> => {
    const partNumber = ++number;
    while (sending.size > 0 && sendingBytes + body.length > SENDING_BYTES_MAX) await Promise.race(sending);
    sendingBytes += body.length;
    sizeBytes += body.length;
    const sent = store
      .uploadPart({ key, uploadId, partNumber }, body, { signal: stop.signal })
      .then((part) => {
        parts.push(part);
        sendingBytes -= body.length;
        sending.delete(sent);
        onSent(body.length);
      });
    sending.add(sent);
    // Whoever waits next hears of the failure.
    sent.catch(() => undefined);
  };
  try {
    for await (const body of partsOf(content)) await send(body);
    await Promise.all(sending);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(sending);
    throw error;
  }
  return { parts: parts.sort((a, b) => a.number - b.number), sizeBytes };
}

async function* partsOf(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let number = 1;
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (let piece of content) {
    for (;;) {
      const room = partAt(number).length - bytes;
      if (piece.length < room) break;
      yield Buffer.concat([...pieces, piece.subarray(0, room)]);
      number += 1;
      pieces = [];
      bytes = 0;
      piece = piece.subarray(room);
    }
    if (piece.length > 0) pieces.push(piece);
    bytes += piece.length;
  }
  if (bytes > 0) yield Buffer.concat(pieces);
}
