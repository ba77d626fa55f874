/**
 * Takes the bytes of one instant out of a file that programs may go on writing to, and brings them to where a commit
 * finds them: small ones into memory, others as parts into the store.
 *
 * Guarantee: there was an instant at which the file held exactly what an `Instant` says. How: if the stamps before and
 * after a reading are the same, nothing was written between, except within the tick of the clock in which the stamp was
 * made; what was read within that tick is read once more after everything else was, and must be the same.
 *
 * Parts are sent while the writer still writes, as soon as it has passed them; the reading at the end sends those again
 * that have changed since.
 */
import { crc32 } from 'node:zlib';
import type { Clock } from '../../lib/base/clock.ts';
import { INLINE_BYTES_MAX } from '../../lib/base/limits.ts';
import type { BegunUpload, CommittedContent } from '../../lib/namespace/changes.ts';
import { firstPartBytes, type PartRange, partAt, partsOf } from '../../lib/tiers/part-geometry.ts';
import type { PartSender, SendUrgency, SentPart } from '../../lib/tiers/part-sender.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import type { FileStamp, StagedFile } from '../staging/staging.ts';
import { PARTS_AT_ONCE, PASSES_MAX, UPLOADS_LOST_MAX } from './limits.ts';
import { isSameStamp, isSettledAt, settledFromMs, stampOf } from './stamps.ts';

export interface Instant {
  readonly stamp: FileStamp;
  /** Any change after this instant shows, or has shown, in the stamp of the file. */
  readonly isSettled: boolean;
  /** CRC-32 of each block. */
  readonly blockChecksums: readonly number[];
  readonly content: Pick<CommittedContent, 'sizeBytes' | 'upload' | 'parts' | 'content'>;
}

export interface TakeOptions {
  /** Asked anew for each part: whoever waits for them may have come meanwhile. */
  readonly urgency: () => SendUrgency;
  readonly signal: AbortSignal;
}

export interface InstantTakerOptions {
  readonly file: StagedFile;
  readonly blockBytes: number;
  readonly sender: PartSender;
  readonly clock: Clock;
  readonly beginUpload: (signal: AbortSignal) => Promise<BegunUpload>;
  readonly sizes?: ContentSizes | undefined;
}

/** For tests, whose files are small. */
export interface ContentSizes {
  readonly inlineBytesMax: number;
  /** Of the first part: a multiple of the block. */
  readonly partBytes: number;
}

/** What the store has of the next version. */
interface Upload {
  readonly begun: BegunUpload;
  readonly parts: Map<number, SentPart>;
  /** Parts that were sent, or are being sent, while the writer still wrote. */
  readonly ahead: Set<number>;
}

export class InstantTaker {
  readonly #options: InstantTakerOptions;
  readonly #sizes: ContentSizes;
  #upload: Upload | undefined;
  #beginning: Promise<Upload> | undefined;
  readonly #sendingAhead = new Set<Promise<void>>();
  #aheadFailed = false;
  /** All parts are being brought to the store: none may be sent ahead beside that, or the older one could come last. */
  #isSendingAll = false;

  constructor(options: InstantTakerOptions) {
    this.#options = options;
    this.#sizes = options.sizes ?? {
      inlineBytesMax: INLINE_BYTES_MAX,
      partBytes: firstPartBytes(options.blockBytes),
    };
  }

  /** Of the upload that is not committed yet, for people. */
  get sentBytes(): number {
    let bytes = 0;
    for (const { range } of this.#upload?.parts.values() ?? []) bytes += range.length;
    return bytes;
  }

  /** The upload was committed, or is of no use any more. */
  forgetUpload(): void {
    this.#upload = undefined;
    this.#beginning = undefined;
    this.#aheadFailed = false;
  }

  /** Has an upload for the parts to come. @throws NamespaceError */
  async begin(signal: AbortSignal): Promise<void> {
    await this.#begun(signal);
  }

  /**
   * Undefined: the file goes on changing.
   * @throws TierError, NamespaceError of `beginUpload`, CacheError, the signal's reason
   */
  async take(options: TakeOptions): Promise<Instant | undefined> {
    let uploadsLost = 0;
    for (let pass = 0; pass < PASSES_MAX;) {
      const before = stampOf(this.#options.file.stat());
      try {
        const instant = await this.#pass(options);
        if (instant !== undefined) return instant;
        pass += 1;
      } catch (error) {
        if (!(error instanceof TierError && error.code === 'stale')) throw error;
        // The file has become shorter, which is a change like any other, or the store has forgotten the upload.
        if (!isSameStamp(before, this.#options.file.stat())) {
          pass += 1;
        } else {
          if (++uploadsLost > UPLOADS_LOST_MAX) throw error;
          this.forgetUpload();
        }
      }
    }
    return undefined;
  }

  /** Whether the file still holds these bytes; then with what stamp, which is settled. Reads all of it. */
  async stampIfSame(known: Pick<Instant, 'stamp' | 'blockChecksums'>): Promise<FileStamp | undefined> {
    const { file, blockBytes, clock } = this.#options;
    const stamp = stampOf(file.stat());
    if (stamp.sizeBytes !== known.stamp.sizeBytes || !isSettledAt(stamp, clock.wallMs())) return undefined;
    for (const [block, checksum] of known.blockChecksums.entries()) {
      const bytes = await file.read(block * blockBytes, blockBytes);
      if (crc32(bytes) !== checksum) return undefined;
    }
    return isSameStamp(stamp, file.stat()) ? stamp : undefined;
  }

  /** Sends what the writer has passed by a part and more, each part once. What fails is left to the end. */
  async sendAhead(signal: AbortSignal): Promise<void> {
    const { file, sender, blockBytes } = this.#options;
    const { sizeBytes } = file.stat();
    if (this.#aheadFailed || this.#isSendingAll || sizeBytes < 2 * this.#sizes.partBytes) return;
    try {
      const upload = await this.#begun(signal);
      for (const range of partsOf(sizeBytes, this.#sizes.partBytes)) {
        if (this.#sendingAhead.size >= PARTS_AT_ONCE || upload !== this.#upload) return;
        if (upload.ahead.has(range.number)) continue;
        const next = partAt(range.number + 1, this.#sizes.partBytes);
        // Before the wait: another call may come to this part meanwhile.
        upload.ahead.add(range.number);
        const isWritten = await this.#isWritten({ from: range.offset, to: next.offset + next.length });
        if (!isWritten || this.#isSendingAll) return void upload.ahead.delete(range.number);
        const part = { upload: upload.begun, part: range, descriptor: file.readFd, blockBytes };
        const sending: Promise<void> = sender
          .send({ ...part, known: undefined, urgency: 'through' }, { signal })
          .then((sent) => void upload.parts.set(range.number, sent))
          .catch(() => void (this.#aheadFailed = true))
          .finally(() => this.#sendingAhead.delete(sending));
        this.#sendingAhead.add(sending);
      }
    } catch {
      this.#aheadFailed = true;
    }
  }

  get isIdle(): boolean {
    return this.#sendingAhead.size === 0;
  }

  /** Resolves when no thread reads from the file for us. */
  async idle(): Promise<void> {
    await Promise.all(this.#sendingAhead);
  }

  /** One reading of the file; undefined if it changed meanwhile. */
  async #pass(options: TakeOptions): Promise<Instant | undefined> {
    const { file, clock } = this.#options;
    options.signal.throwIfAborted();
    const stamp = stampOf(file.stat());
    const pass = new Pass(stamp);
    this.#isSendingAll = true;
    let content: Pick<Instant, 'content' | 'blockChecksums'> | undefined;
    try {
      content =
        stamp.sizeBytes <= this.#sizes.inlineBytesMax
          ? await this.#readContent(pass)
          : await this.#sendParts(pass, options);
    } finally {
      this.#isSendingAll = false;
    }
    if (content === undefined || !isSameStamp(stamp, file.stat())) return undefined;
    return { ...content, stamp, isSettled: isSettledAt(stamp, clock.wallMs()) };
  }

  async #readContent(pass: Pass): Promise<Pick<Instant, 'content' | 'blockChecksums'> | undefined> {
    const { file, blockBytes, clock } = this.#options;
    const { sizeBytes } = pass.stamp;
    const isSettled = isSettledAt(pass.stamp, clock.wallMs());
    const bytes = Buffer.from(await file.read(0, sizeBytes));
    if (!isSettled && sizeBytes > 0 && !bytes.equals(await file.read(0, sizeBytes))) return undefined;
    if (bytes.length !== sizeBytes) return undefined;
    const blockChecksums = Array.from({ length: Math.ceil(sizeBytes / blockBytes) }, (_, block) =>
      crc32(bytes.subarray(block * blockBytes, (block + 1) * blockBytes)),
    );
    return {
      blockChecksums,
      content: { sizeBytes, upload: '', parts: [], ...(sizeBytes === 0 ? {} : { content: bytes }) },
    };
  }

  async #sendParts(
    pass: Pass,
    options: TakeOptions,
  ): Promise<Pick<Instant, 'content' | 'blockChecksums'> | undefined> {
    const upload = await this.#begun(options.signal);
    await this.idle();
    const { sizeBytes } = pass.stamp;
    const ranges = Array.from(partsOf(sizeBytes, this.#sizes.partBytes));
    const early: PartRange[] = [];
    await this.#sendAll(ranges, upload, {
      ...options,
      onRead: (range, fromMs) => {
        if (!pass.isSettledSince(fromMs)) early.push(range);
      },
    });
    let isSame = true;
    await this.#sendAll(early, upload, {
      ...options,
      onRead: (_, __, wasSame) => (isSame &&= wasSame),
    });
    if (!isSame) return undefined;
    const sent = ranges.map(({ number }) => upload.parts.get(number)!);
    return {
      blockChecksums: sent.flatMap(({ blockChecksums }) => blockChecksums),
      content: {
        sizeBytes,
        upload: upload.begun.upload,
        parts: sent.map(({ range, entityTag }) => ({
          number: range.number,
          entityTag,
          sizeBytes: range.length,
        })),
      },
    };
  }

  /** Brings these parts to the store as they are now. When one fails all have ended before the failure is told. */
  async #sendAll(
    ranges: readonly PartRange[],
    upload: Upload,
    options: TakeOptions & {
      readonly onRead: (range: PartRange, fromMs: number, wasSame: boolean) => void;
    },
  ): Promise<void> {
    const { file, blockBytes, sender, clock } = this.#options;
    const others = new AbortController();
    const signal = AbortSignal.any([options.signal, others.signal]);
    const left = ranges.values();
    const run = async (): Promise<void> => {
      for (const part of left) {
        signal.throwIfAborted();
        const known = upload.parts.get(part.number);
        const fromMs = clock.wallMs();
        const sent = await sender.send(
          {
            ...{ upload: upload.begun, part, descriptor: file.readFd, blockBytes, known },
            urgency: options.urgency(),
          },
          { signal },
        );
        upload.parts.set(part.number, sent);
        options.onRead(part, fromMs, sent === known);
      }
    };
    let failure: { readonly error: unknown } | undefined;
    const runs = Array.from({ length: Math.min(PARTS_AT_ONCE, ranges.length) }, () =>
      run().catch((error: unknown) => {
        failure ??= { error };
        others.abort(error);
      }),
    );
    await Promise.all(runs);
    if (failure !== undefined) throw failure.error;
  }

  #begun(signal: AbortSignal): Promise<Upload> {
    this.#beginning ??= this.#options
      .beginUpload(signal)
      .then((begun) => (this.#upload = { begun, parts: new Map(), ahead: new Set() }))
      .catch((error: unknown) => {
        this.#beginning = undefined;
        throw error;
      });
    return this.#beginning;
  }

  async #isWritten({ from, to }: { readonly from: number; readonly to: number }): Promise<boolean> {
    const { file } = this.#options;
    if (file.stat().sizeBytes < to) return false;
    const hole = await file.seek(from, 'hole');
    return hole !== undefined && hole >= to;
  }
}

/** One reading of a file that had this stamp when it began. */
class Pass {
  readonly stamp: FileStamp;
  readonly #settledFromMs: number;

  constructor(stamp: FileStamp) {
    this.stamp = stamp;
    this.#settledFromMs = settledFromMs(stamp);
  }

  /** Whether a change of what was read since then shows in the stamp. */
  isSettledSince(wallMs: number): boolean {
    return wallMs > this.#settledFromMs;
  }
}
