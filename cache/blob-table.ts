/**
 * Every blob of the directory: its state, its file, its space.
 *
 * Invariants: one blob for a version at a time; a file is in `blobs/` exactly from its first byte until the blob
 * is removed; once a descriptor was handed to the kernel the file is never written again (a bad block then
 * costs the whole blob, and the next open starts a fresh file); space is given back only when the file system
 * has it back.
 */
import { invariant } from '../lib/base/errors.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import { CacheError, type OpenVersion } from './block-cache.ts';
import { type Blob, type BlobBody, type BlobEvent, nextBlobState } from './blob.ts';
import { bodyOfRow, newBlob, newBody } from './blob-row.ts';
import { BlockGeometry } from './block-map.ts';
import type { Catalog } from './catalog.ts';
import { type Disk, diskFault, FileGoneError } from './disk.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import { blobPath, type CachePaths } from './format.ts';
import { UNLINK_NOW_BYTES_MAX } from './limits.ts';
import type { Recorder } from './recorder.ts';
import type { SpaceLedger } from './reservation.ts';
import type { Shards } from './shards.ts';

export interface BlobTableOptions {
  readonly paths: CachePaths;
  readonly disk: Disk;
  readonly catalog: Catalog;
  readonly ledger: SpaceLedger;
  readonly policy: EvictionPolicy;
  readonly recorder: Recorder;
  readonly blockBytes: number;
  readonly shards: Shards;
  readonly logger: Logger;
  readonly onFailure: (error: unknown) => void;
  /** The blob takes no room any more, or soon. */
  readonly onRemoved: (blob: Blob) => void;
}

/** Bodies of blobs that nobody uses, and the largest of them: some hundred bytes each. */
const KEPT_BODIES_MAX = 32_768;
const KEPT_BODY_BLOCKS_MAX = 64;

export class BlobTable {
  readonly #options: BlobTableOptions;
  /** Blobs that nobody uses, with their bodies; the one used last at the end. */
  readonly #kept = new Set<Blob>();
  readonly #blobs = new Map<string, Blob>();
  #discarded = 0;
  #filesGone = 0;
  #closed = false;
  #pinnedBytes = 0;
  #completeBlobs = 0;

  constructor(options: BlobTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#blobs.size;
  }

  /** Sizes of pinned versions. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  get completeBlobs(): number {
    return this.#completeBlobs;
  }

  get(version: string): Blob | undefined {
    return this.#blobs.get(version);
  }

  values(): IterableIterator<Blob> {
    return this.#blobs.values();
  }

  /** A blob of an earlier run, as recovery found it. */
  adopt(blob: Blob): void {
    this.#blobs.set(blob.version, blob);
    this.#options.ledger.adopt(blob.chargedBytes);
    if (blob.pinned) this.#pinnedBytes += blob.sizeBytes;
    if (blob.state.kind === 'complete') this.#completeBlobs++;
  }

  /** The blob of a version, with its body; made if there is none. */
  obtain(opened: OpenVersion): Blob {
    const { version, sizeBytes } = opened.source;
    const known = this.#blobs.get(version);
    if (known?.sizeBytes === sizeBytes) {
      const body = this.load(known);
      if (body.path !== opened.path || body.source.objectKey !== opened.source.objectKey) {
        body.path = opened.path;
        if (known.recorded) this.#options.recorder.changed(known);
      }
      body.source = opened.source;
      body.inode = opened.inode;
      return known;
    }
    if (known !== undefined) {
      this.#options.logger.error(
        { version, was: known.sizeBytes, now: sizeBytes },
        'a version changed its size',
      );
      void this.remove(known);
    }
    const { blockBytes, shards, recorder } = this.#options;
    recorder.settleRemoval(version);
    const blob = newBlob({ version, sizeBytes, blockBytes, shard: shards.take() });
    blob.body = newBody(opened, new BlockGeometry(sizeBytes, blob.blockBytes));
    this.#blobs.set(version, blob);
    if (sizeBytes === 0) this.#filled(blob);
    return blob;
  }

  /** The body, read from the catalog if it is not in memory. */
  load(blob: Blob): BlobBody {
    if (blob.body !== undefined) return blob.body;
    const row = this.#options.catalog.get(blob.version);
    invariant(row !== undefined, 'a blob without a body is in the catalog');
    const body = bodyOfRow(row);
    if (blob.state.kind === 'complete') {
      invariant(body.present.full, 'a complete blob has every block');
      if (blob.state.verified) body.verified.addAll();
    }
    blob.body = body;
    return body;
  }

  /** The descriptor of the blob's file; opened, and made, on first use. @throws FileGoneError, what the system said */
  descriptor(blob: Blob): number {
    const body = blob.body;
    invariant(body !== undefined, 'a blob in use has its body');
    if (body.fd !== undefined) return body.fd;
    if (this.#closed) throw new CacheError('closed', 'the cache is shutting down');
    invariant(blob.state.kind !== 'evicting', 'a removed file is not opened again');
    const path = blobPath(this.#options.paths, blob);
    const create = body.present.count === 0 && !hasLeftovers(body);
    try {
      return (body.fd = this.#options.disk.open(path, { create }));
    } catch (error) {
      if (create || diskFault(error) !== 'missing') throw error;
      this.#fileGone(blob, body);
      throw new FileGoneError(`the file of ${blob.version} is gone`, { cause: error });
    }
  }

  /** Somebody removed the file: the blob has nothing any more, and takes no room but for what is on its way. */
  #fileGone(blob: Blob, body: BlobBody): void {
    const { ledger, recorder, logger } = this.#options;
    let keptBytes = 0;
    for (let block = 0; block < body.geometry.blocks; block++) {
      body.present.delete(block);
      body.verified.delete(block);
      if (!body.fills.has(block)) body.charged.delete(block);
      else if (body.charged.has(block)) keptBytes += body.geometry.charge(block);
    }
    ledger.free(blob.chargedBytes - keptBytes);
    blob.chargedBytes = keptBytes;
    this.#apply(blob, 'block-lost');
    recorder.changed(blob);
    this.#filesGone++;
    // A whole directory may have been emptied: a line for each file would say no more.
    if (Number.isInteger(Math.log10(this.#filesGone))) {
      logger.warn(
        { version: blob.version, path: body.path, files: this.#filesGone },
        'files of the cache were removed by somebody else; what they held is fetched again',
      );
    }
  }

  /** A block arrived. */
  blockFilled(blob: Blob, block: number, checksum: number): void {
    const body = blob.body;
    invariant(body !== undefined && blob.state.kind === 'filling', 'only a filling blob is filled');
    body.checksums[block] = checksum;
    body.present.add(block);
    body.verified.add(block);
  }

  /** A run of blocks has arrived as a whole. */
  runFilled(blob: Blob): void {
    if (blob.body!.present.full && blob.body!.verified.full) this.#filled(blob);
    else this.#options.recorder.changed(blob);
  }

  /** A present block was compared with its checksum and is good. */
  blockVerified(blob: Blob, block: number): void {
    const body = blob.body;
    if (body === undefined || !body.present.has(block)) return;
    body.verified.add(block);
    if (!body.verified.full || !body.present.full) return;
    if (blob.state.kind === 'complete') this.#apply(blob, 'verified');
    else if (blob.state.kind === 'filling') this.#filled(blob);
  }

  /** A block cannot be served. It will be fetched again, into a fresh file if the kernel may be reading this one. */
  blockLost(blob: Blob, block: number): void {
    const body = blob.body;
    invariant(body !== undefined, 'a blob in use has its body');
    if (!body.present.delete(block)) return;
    body.verified.delete(block);
    if (blob.state.kind === 'complete' && blob.passthroughs > 0) {
      void this.remove(blob);
      return;
    }
    this.#apply(blob, 'block-lost');
    if (blob.state.kind !== 'evicting') this.#options.recorder.changed(blob);
  }

  /**
   * Makes a file that lies elsewhere in the directory, whole, the blob of a version that has none. The catalog knows of
   * it before the file moves: a row without a file is dropped at the next start, while a file without a row would be
   * removed. Undefined if the disk refuses; the file stays where it is then.
   */
  seal(
    opened: OpenVersion,
    file: {
      readonly path: string;
      readonly blockChecksums: readonly number[];
      /** What it takes, as the ledger has it by now. */
      readonly chargedBytes: number;
    },
  ): Blob | undefined {
    const { version, sizeBytes } = opened.source;
    const { blockBytes, shards, recorder, disk, paths, policy } = this.#options;
    const geometry = new BlockGeometry(sizeBytes, blockBytes);
    invariant(!this.#blobs.has(version) && sizeBytes > 0, 'a version gets one blob');
    invariant(file.blockChecksums.length === geometry.blocks, 'there is one checksum for each block');
    const blob = newBlob({ version, sizeBytes, blockBytes, shard: shards.take() });
    const body = (blob.body = newBody(opened, geometry));
    for (const blocks of [body.present, body.verified, body.charged]) blocks.addAll();
    body.checksums.set(file.blockChecksums);
    blob.holds++;
    this.#blobs.set(version, blob);
    this.#filled(blob);
    try {
      if (!recorder.flush()) throw new CacheError('disk', 'the catalog cannot be written');
      disk.rename(file.path, blobPath(paths, blob));
    } catch (error) {
      this.#apply(blob, 'evict');
      this.#blobs.delete(version);
      recorder.removed(blob);
      this.#options.onFailure(error);
      return undefined;
    } finally {
      blob.holds--;
    }
    blob.chargedBytes = file.chargedBytes;
    policy.touch(version, sizeBytes);
    policy.admit(version);
    this.release(blob);
    return blob;
  }

  pin(blob: Blob, pinned: boolean): void {
    if (blob.pinned === pinned) return;
    this.load(blob);
    blob.pinned = pinned;
    this.#pinnedBytes += pinned ? blob.sizeBytes : -blob.sizeBytes;
    this.#options.recorder.changed(blob);
  }

  /** Space for more blocks was taken from the ledger. */
  charge(blob: Blob, blocks: Iterable<number>, bytes: number): void {
    for (const block of blocks) blob.body!.charged.add(block);
    blob.chargedBytes += bytes;
  }

  /**
   * Takes the file's name away. Whoever holds the blob keeps what it has; its space comes back with the last of
   * them. Returns what to wait for if freeing takes time.
   */
  remove(blob: Blob): Promise<void> | undefined {
    const { paths, disk, policy, recorder } = this.#options;
    invariant(blob.body === undefined || blob.body.fills.size === 0, 'a blob that is being filled stays');
    this.#apply(blob, 'evict');
    this.#blobs.delete(blob.version);
    this.#kept.delete(blob);
    policy.remove(blob.version);
    this.#options.onRemoved(blob);
    recorder.removed(blob);
    if (blob.pinned) this.#pinnedBytes -= blob.sizeBytes;
    const path = blobPath(paths, blob);
    const inUse = blob.body?.fd !== undefined;
    try {
      if (inUse || blob.chargedBytes <= UNLINK_NOW_BYTES_MAX) {
        disk.unlink(path);
        this.release(blob);
        if (!inUse) this.#free(blob);
        return undefined;
      }
    } catch (error) {
      this.#options.onFailure(error);
      return undefined;
    }
    return disk.discard(path, `${paths.trash}/${++this.#discarded}`).then(
      () => this.#free(blob),
      (error: unknown) => this.#options.onFailure(error),
    );
  }

  /** The bodies that were used last stay: files that are opened in turn cost no question to the catalog. */
  #keep(blob: Blob): void {
    if (blob.body!.geometry.blocks > KEPT_BODY_BLOCKS_MAX) {
      blob.body = undefined;
      return;
    }
    this.#kept.delete(blob);
    this.#kept.add(blob);
    if (this.#kept.size <= KEPT_BODIES_MAX) return;
    for (const oldest of this.#kept) {
      this.#kept.delete(oldest);
      // In use again it comes back here with its end.
      const { body, handles, holds, unrecorded } = oldest;
      if (body?.fills.size === 0 && handles === 0 && holds === 0 && !unrecorded) oldest.body = undefined;
      return;
    }
  }

  /** Lets go of what nobody needs: the descriptor, the body, a blob without bytes. */
  release(blob: Blob): void {
    const body = blob.body;
    if (body === undefined || blob.handles > 0 || blob.holds > 0 || body.fills.size > 0) return;
    const wasOpen = body.fd !== undefined;
    if (body.fd !== undefined) this.#options.disk.close(body.fd);
    body.fd = undefined;
    if (blob.state.kind === 'evicting') {
      blob.body = undefined;
      if (wasOpen) this.#free(blob);
    } else if (body.present.count === 0 && !blob.pinned) {
      void this.remove(blob);
    } else if (!blob.unrecorded) {
      if (blob.recorded) this.#keep(blob);
      else this.#options.recorder.changed(blob);
    }
  }

  /**
   * Closes every descriptor that nobody is using at this moment; the others with the end of their use, because the
   * number of a closed one may already be another file's.
   */
  close(): void {
    this.#closed = true;
    for (const blob of this.#blobs.values()) {
      if (blob.body?.fd === undefined || blob.holds > 0 || blob.body.fills.size > 0) continue;
      this.#options.disk.close(blob.body.fd);
      blob.body.fd = undefined;
    }
  }

  #filled(blob: Blob): void {
    this.#apply(blob, 'filled');
    if (blob.sizeBytes === 0) return;
    this.#options.recorder.completed(blob);
  }

  #free(blob: Blob): void {
    this.#options.ledger.free(blob.chargedBytes);
    blob.chargedBytes = 0;
  }

  #apply(blob: Blob, event: BlobEvent): void {
    const was = blob.state;
    try {
      blob.state = nextBlobState(was, event);
    } catch (error) {
      // Stops the process: nobody may catch this by accident.
      queueMicrotask(() => {
        throw error;
      });
      throw error;
    }
    this.#completeBlobs += Number(blob.state.kind === 'complete') - Number(was.kind === 'complete');
  }
}

/** Is there room taken by blocks that nobody is filling now, such as by a fill that failed half-way? */
function hasLeftovers({ charged, fills }: BlobBody): boolean {
  if (charged.count > fills.size) return true;
  for (let block = 0; charged.count > 0 && block < charged.size; block++) {
    if (charged.has(block) && !fills.has(block)) return true;
  }
  return false;
}
