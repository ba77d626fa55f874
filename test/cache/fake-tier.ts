/**
 * A tier without a network: bytes are a function of version and offset, so every byte that a cache serves can
 * be checked against its source. Requests can be held, failed, or given piecemeal.
 */
import { writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { VersionId } from '../../lib/base/brand.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import {
  type FillOptions,
  type FillRequest,
  type FillResult,
  type Tier,
  TierError,
  type VersionSource,
} from '../../lib/tiers/tier.ts';

const PATTERN_BYTES = 1_048_573;
const pattern = makePattern();

function makePattern(): Buffer {
  const bytes = Buffer.alloc(PATTERN_BYTES);
  const prng = seededPrng(7);
  for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
  return bytes;
}

/** A version id made of a small number. */
export function versionId(number: number): VersionId {
  return crc32(String(number))
    .toString(16)
    .padStart(8, '0')
    .repeat(3)
    .concat(number.toString(16).padStart(8, '0')) as VersionId;
}

export function sourceOf(number: number, sizeBytes: number): VersionSource {
  return {
    version: versionId(number),
    exportName: 'main',
    objectKey: `object-${number}`,
    objectVersion: undefined,
    entityTag: `"tag-${number}"`,
    sizeBytes,
  };
}

/** The true bytes of a version. */
export function trueBytes(source: VersionSource, offset: number, length: number): Buffer {
  const end = Math.min(offset + length, source.sizeBytes);
  const bytes = Buffer.alloc(Math.max(0, end - offset));
  const shift = parseInt(source.version.slice(0, 6), 16);
  for (let at = 0; at < bytes.length;) {
    const from = (shift + offset + at) % PATTERN_BYTES;
    at += pattern.copy(bytes, at, from, Math.min(PATTERN_BYTES, from + bytes.length - at));
  }
  return bytes;
}

export interface HeldFill {
  readonly request: FillRequest;
  readonly options: FillOptions;
  /** Writes up to this offset and reports it. */
  give(filledTo: number): void;
  finish(): void;
  fail(error: Error): void;
}

export class FakeTier implements Tier {
  readonly name = 'fake';
  readonly fills: FillRequest[] = [];
  readonly reads: { readonly source: VersionSource; readonly offset: number; readonly length: number }[] = [];
  /** Fills that wait for the test, if `hold`. */
  readonly held: HeldFill[] = [];
  hold = false;
  /** What the next fills fail with, if anything. */
  failFill: (() => Error | undefined) | undefined;
  #waiting: (() => void)[] = [];

  /** Resolves when so many fills are held. */
  async untilHeld(count: number): Promise<void> {
    while (this.held.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async fill(request: FillRequest, options: FillOptions = {}): Promise<FillResult> {
    this.fills.push(request);
    const failure = this.failFill?.();
    if (failure !== undefined) throw failure;
    const write = (from: number, to: number): void => {
      try {
        const bytes = trueBytes(request.source, from, to - from);
        for (let at = 0; at < bytes.length;) {
          at += writeSync(request.sinkFd, bytes, at, bytes.length - at, from + at);
        }
      } catch (error) {
        throw new TierError('sink', 'the sink refused', { cause: error });
      }
    };
    const end = request.offset + request.length;
    if (!this.hold) {
      write(request.offset, end);
      options.onProgress?.(end);
      return checksums(request);
    }
    return new Promise<FillResult>((resolve, reject) => {
      let filledTo = request.offset;
      const give = (to: number): void => {
        write(filledTo, to);
        filledTo = to;
        options.onProgress?.(to);
      };
      const finish = (): void => {
        give(end);
        resolve(checksums(request));
      };
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
      this.held.push({ request, options, give, finish, fail: reject });
      for (const wake of this.#waiting.splice(0)) wake();
    });
  }

  async read(
    range: { readonly source: VersionSource; readonly offset: number; readonly length: number },
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    this.reads.push(range);
    return trueBytes(range.source, range.offset, range.length);
  }

  async close(): Promise<void> {}
}

function checksums(request: FillRequest): FillResult {
  const blockChecksums: number[] = [];
  const end = request.offset + request.length;
  for (let at = request.offset; at < end; at += request.blockBytes) {
    blockChecksums.push(crc32(trueBytes(request.source, at, Math.min(request.blockBytes, end - at))));
  }
  return { blockChecksums };
}
