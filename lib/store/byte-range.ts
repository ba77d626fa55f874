/** Which bytes of an object a request asks for. */
import { type GetRequest, StoreError } from './object-store.ts';

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Refuses what no object could satisfy. */
export function checkRange(request: GetRequest): void {
  const { range } = request;
  if (!range) return;
  const whole = Number.isSafeInteger(range.offset) && Number.isSafeInteger(range.length);
  if (!whole || range.offset < 0 || range.length < 1) {
    throw new StoreError('invalid-range', `${request.key}: no range ${range.offset}+${range.length}`);
  }
}

/** The bytes that an object of `sizeBytes` yields; a range may reach over the end but not begin there. */
export function rangeWithin(request: GetRequest, sizeBytes: number): ByteRange {
  const { range } = request;
  if (!range) return { offset: 0, length: sizeBytes };
  if (range.offset >= sizeBytes) {
    throw new StoreError(
      'invalid-range',
      `${request.key}: offset ${range.offset} is not inside its ${sizeBytes} bytes`,
    );
  }
  return { offset: range.offset, length: Math.min(range.length, sizeBytes - range.offset) };
}
