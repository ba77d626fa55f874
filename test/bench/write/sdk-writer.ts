/**
 * A child process: the bare SDK uploads plain files in parts to the same server, with nothing around it, as it is out of
 * the box. Prints one JSON object.
 */
import fs from 'node:fs';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

const PART_BYTES = 8 * 1024 * 1024;

export interface SdkWriterTask {
  readonly endpoint: string;
  readonly bucket: string;
  readonly files: readonly { readonly file: string; readonly key: string }[];
  /** Parts on their way at one time, of all files together. */
  readonly parallel: number;
}

const task = JSON.parse(process.argv[2]!) as SdkWriterTask;
const client = new S3Client({
  endpoint: task.endpoint,
  forcePathStyle: true,
  requestHandler: new NodeHttpHandler({ httpAgent: { keepAlive: true, maxSockets: 64 } }),
});
const each = Math.max(1, Math.floor(task.parallel / task.files.length));

async function upload({ file, key }: SdkWriterTask['files'][number]): Promise<void> {
  const place = { Bucket: task.bucket, Key: key };
  const fd = await fs.promises.open(file);
  const { size } = await fd.stat();
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(place));
  const parts: { PartNumber: number; ETag: string | undefined }[] = [];
  let next = 0;
  const send = async (): Promise<void> => {
    while (next * PART_BYTES < size) {
      const PartNumber = ++next;
      const offset = (PartNumber - 1) * PART_BYTES;
      const Body = Buffer.allocUnsafe(Math.min(PART_BYTES, size - offset));
      await fd.read(Body, 0, Body.length, offset);
      const { ETag } = await client.send(new UploadPartCommand({ ...place, UploadId, PartNumber, Body }));
      parts.push({ PartNumber, ETag });
    }
  };
  await Promise.all(Array.from({ length: each }, send));
  parts.sort((one, other) => one.PartNumber - other.PartNumber);
  await client.send(
    new CompleteMultipartUploadCommand({ ...place, UploadId, MultipartUpload: { Parts: parts } }),
  );
  await fd.close();
}

// Loads what the SDK loads lazily, and opens a connection.
await client.send(new PutObjectCommand({ Bucket: task.bucket, Key: 'warm-up', Body: Buffer.from('x') }));
const startedMs = performance.now();
await Promise.all(task.files.map(upload));
console.log(JSON.stringify({ seconds: (performance.now() - startedMs) / 1000 }));
client.destroy();
