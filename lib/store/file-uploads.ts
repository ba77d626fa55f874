/**
 * Uploads in parts of the file store. Each is a directory `.perigee/uploads/<id>` with its description and one
 * durable file per part; completion strings the parts together into one new object, so it is as atomic as a put.
 */
import { type FileHandle, lstat, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { randomId } from '../base/prng.ts';
import { unlessAbsent } from './file-errors.ts';
import { entityTagOf } from './file-objects.ts';
import { type FilePaths, syncDirectory, writeDurably } from './file-paths.ts';
import { type FileWriter } from './file-writer.ts';
import {
  type ObjectMetadata,
  StoreError,
  type UploadedPart,
  type WriteConditions,
  type Written,
} from './object-store.ts';

export const PARTS_MAX = 10_000;
const COPY_BUFFER_BYTES = 1024 * 1024;

interface Upload {
  readonly key: string;
  readonly uploadId: string;
}

interface Description {
  readonly format: 1;
  readonly key: string;
  readonly metadata: ObjectMetadata;
  readonly conditions: WriteConditions;
}

export class FileUploads {
  readonly #paths: FilePaths;
  readonly #writer: FileWriter;

  constructor(paths: FilePaths, writer: FileWriter) {
    this.#paths = paths;
    this.#writer = writer;
  }

  async create(key: string, given: Pick<Description, 'metadata' | 'conditions'>): Promise<string> {
    const uploadId = randomId(16);
    const directory = await this.#paths.makeReserved('uploads', uploadId);
    const description: Description = { format: 1, key, ...given };
    await writeDurably(join(directory, 'upload.json'), Buffer.from(JSON.stringify(description)));
    await syncDirectory(directory);
    return uploadId;
  }

  async addPart(upload: Upload & { readonly partNumber: number }, body: Uint8Array): Promise<UploadedPart> {
    const { partNumber } = upload;
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > PARTS_MAX) {
      throw new StoreError('invalid', `${upload.key}: there is no part ${partNumber}`);
    }
    await this.#describe(upload);
    const directory = this.#directory(upload);
    const temporary = join(directory, `.${randomId(8)}`);
    await writeDurably(temporary, body);
    const path = join(directory, String(partNumber));
    await rename(temporary, path);
    await syncDirectory(directory);
    const stats = await lstat(path, { bigint: true });
    return { number: partNumber, entityTag: entityTagOf(stats), sizeBytes: body.length };
  }

  async complete(
    upload: Upload & { readonly parts: readonly UploadedPart[] },
    conditions: WriteConditions,
  ): Promise<Written> {
    const { metadata, conditions: early } = await this.#describe(upload);
    if (upload.parts.length === 0)
      throw new StoreError('invalid', `${upload.key}: an upload has a part at least`);
    const written = await this.#writer.write({
      key: upload.key,
      metadata,
      conditions: { ...early, ...conditions },
      fill: (file) => this.#join(upload, file),
    });
    await this.#remove(upload);
    return written;
  }

  async abort(upload: Upload): Promise<void> {
    await this.#describe(upload);
    await this.#remove(upload);
  }

  #directory(upload: Upload): string {
    return this.#paths.reserved('uploads', upload.uploadId);
  }

  async #remove(upload: Upload): Promise<void> {
    await rm(this.#directory(upload), { recursive: true, force: true });
  }

  async #describe(upload: Upload): Promise<Description> {
    const known = /^[0-9a-f]{32}$/.test(upload.uploadId);
    const text = known
      ? await unlessAbsent(readFile(join(this.#directory(upload), 'upload.json'), 'utf8'))
      : undefined;
    const description = text === undefined ? undefined : (JSON.parse(text) as Description);
    if (description?.key !== upload.key) {
      throw new StoreError('not-found', `${upload.key}: there is no upload ${upload.uploadId}`);
    }
    return description;
  }

  async #join(upload: Upload & { readonly parts: readonly UploadedPart[] }, into: FileHandle): Promise<void> {
    const buffer = Buffer.allocUnsafe(COPY_BUFFER_BYTES);
    let last = 0;
    for (const part of upload.parts) {
      if (part.number <= last) throw new StoreError('invalid', `${upload.key}: its parts are not in order`);
      last = part.number;
      const file = await unlessAbsent(open(join(this.#directory(upload), String(part.number)), 'r'));
      try {
        const stats = await file?.stat({ bigint: true });
        if (!file || !stats || entityTagOf(stats) !== part.entityTag) {
          throw new StoreError(
            'invalid',
            `${upload.key}: part ${part.number} is not the one that was uploaded`,
          );
        }
        for (;;) {
          const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
          if (bytesRead === 0) break;
          await writeAll(into, buffer.subarray(0, bytesRead));
        }
      } finally {
        await file?.close();
      }
    }
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await file.write(bytes, at, bytes.length - at, null)).bytesWritten;
  }
}
