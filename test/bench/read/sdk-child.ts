/**
 * A child process: the bare SDK against the same server, with nothing around it. Prints one JSON object.
 * `download FILE|-` the big object in parallel ranged GETs; `first` ranged GETs one by one; `small` GETs of small objects.
 */
import fs from 'node:fs';
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { Readable } from 'node:stream';
import { fileName } from './file-name.ts';

const MIB = 1024 * 1024;
const GET_BYTES = 8 * MIB;
const FIRST_GET_BYTES = 128 * 1024;
const FIRST_GETS = 20;

export interface SdkTask {
  readonly endpoint: string;
  readonly bucket: string;
  readonly key: string;
  readonly bytes: number;
  readonly parallel: number;
}

const [mode, json, sink] = process.argv.slice(2) as [string, string, string | undefined];
const task = JSON.parse(json) as SdkTask;
const client = new S3Client({
  endpoint: task.endpoint,
  forcePathStyle: true,
  requestHandler: new NodeHttpHandler({ httpAgent: { keepAlive: true, maxSockets: 64 } }),
});

async function get(key: string, range: string | undefined, take: (piece: Buffer) => void): Promise<void> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: task.bucket, Key: key, Range: range }));
  const body = Body as Readable;
  await new Promise<void>((resolve, reject) => {
    body.on('data', take).on('end', resolve).on('error', reject);
  });
}

async function download(file: string | undefined): Promise<void> {
  const fd = file === undefined || file === '-' ? undefined : fs.openSync(file, 'w');
  let next = 0;
  await inParallel(async () => {
    while (next < task.bytes) {
      const offset = next;
      next += GET_BYTES;
      let at = offset;
      await get(task.key, `bytes=${offset}-${Math.min(task.bytes, offset + GET_BYTES) - 1}`, (piece) => {
        if (fd !== undefined) fs.writeSync(fd, piece, 0, piece.length, at);
        at += piece.length;
      });
    }
  });
  if (fd !== undefined) fs.closeSync(fd);
}

async function inParallel(run: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: task.parallel }, run));
}

async function timed(run: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await run();
  return performance.now() - startedMs;
}

async function measure(): Promise<number | number[]> {
  // Loads what the SDK loads lazily, and opens a connection.
  const warmUp = mode === 'small' ? `${task.key}/${fileName(0)}` : task.key;
  await get(warmUp, 'bytes=0-0', () => undefined);
  switch (mode) {
    case 'download':
      return timed(() => download(sink));
    case 'first': {
      const times: number[] = [];
      for (let count = 0; count < FIRST_GETS; count++) {
        times.push(await timed(() => get(task.key, `bytes=0-${FIRST_GET_BYTES - 1}`, () => undefined)));
      }
      return times;
    }
    case 'small': {
      let next = 0;
      return timed(() =>
        inParallel(async () => {
          while (next < task.bytes) await get(`${task.key}/${fileName(next++)}`, undefined, () => undefined);
        }),
      );
    }
    default:
      throw new Error(`unknown mode ${mode}`);
  }
}

console.log(JSON.stringify({ ms: await measure() }));
client.destroy();
