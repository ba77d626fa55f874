/** The server with what is read: one big object, many small ones; on a Ceph gateway of the benchmark's own. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { withCeph } from '../../servers/servers.ts';
import { openStore } from '../../../lib/store/open-store.ts';
import { startLatencyProxy } from '../../faults/latency-proxy.ts';
import { fileName } from './file-name.ts';
import type { Stage } from './stage.ts';

const MIB = 1024 * 1024;
const PART_BYTES = 32 * MIB;
const UPLOADS_AT_ONCE = 8;
const GREETING = 'greeting.txt';

export interface FileSet {
  /** Folder in the bucket. */
  readonly folder: string;
  readonly count: number;
  readonly fileBytes: number;
}

/** Sizes of the comparison, and small ones for a look whether everything works. */
export function sizes(isQuick: boolean): {
  readonly bigBytes: number;
  readonly warmFiles: FileSet;
  readonly coldFiles: FileSet;
} {
  return {
    bigBytes: isQuick ? 64 * MIB : 1024 * MIB,
    warmFiles: { folder: 'warm-files', count: isQuick ? 200 : 10_000, fileBytes: 100_000 },
    coldFiles: { folder: 'cold-files', count: isQuick ? 200 : 10_000, fileBytes: 10_000 },
  };
}

export interface Dataset {
  readonly endpoint: string;
  readonly bucket: string;
  readonly env: Readonly<Record<string, string>>;
  readonly storeUrl: string;
  readonly big: { readonly key: string; readonly bytes: number };
  /** Key of a small object that nothing else reads. */
  readonly greeting: string;
  /** A second way to the same server, on which every request takes this much longer. */
  slowEndpoint(delayMs: number): Promise<string>;
  /** Uploads a set of files when it is needed first. */
  files(set: FileSet): Promise<FileSet>;
  /** The big object as a plain file of this disk. */
  nativeBig(): string;
  nativeFiles(set: FileSet): string;
}

export async function prepareDataset(stage: Stage): Promise<Dataset> {
  stage.tell('starting a Ceph gateway');
  const server = await withCeph({ teardown: (run) => stage.atEnd('Ceph gateway', run) });
  const { bigBytes } = sizes(stage.isQuick);
  const big = { key: 'big.bin', bytes: bigBytes };
  const store = openStore(server.url());
  stage.atEnd('store', () => store.close());

  const native = stage.place('native');
  const bigPath = path.join(native, 'big.bin');
  stage.tell(`uploading ${bigBytes / MIB} MiB`);
  const uploadId = await store.createUpload(big.key);
  const fd = fs.openSync(bigPath, 'w');
  const parts = [];
  for (let offset = 0; offset < bigBytes; offset += PART_BYTES) {
    const body = randomBytes(Math.min(PART_BYTES, bigBytes - offset));
    fs.writeSync(fd, body, 0, body.length, offset);
    const partNumber = offset / PART_BYTES + 1;
    parts.push(await store.uploadPart({ key: big.key, uploadId, partNumber }, body));
  }
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  await store.completeUpload({ key: big.key, uploadId, parts });

  await store.put(GREETING, Buffer.from('good morning'));

  const uploaded = new Map<string, Promise<FileSet>>();
  const upload = async (set: FileSet): Promise<FileSet> => {
    stage.tell(`uploading ${set.count} files of ${set.fileBytes} bytes`);
    let next = 0;
    const body = randomBytes(set.fileBytes);
    const uploadSome = async (): Promise<void> => {
      while (next < set.count) {
        const index = next++;
        const own = Buffer.from(body);
        own.writeUInt32LE(index);
        await store.put(`${set.folder}/${fileName(index)}`, own);
        const file = path.join(native, set.folder, fileName(index));
        fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, own);
      }
    };
    await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, uploadSome));
    return set;
  };

  let slow: Promise<string> | undefined;
  return {
    endpoint: server.endpoint,
    bucket: server.bucket,
    env: { ...server.env, AWS_REGION: 'us-east-1' },
    storeUrl: server.url(),
    big,
    greeting: GREETING,
    slowEndpoint: (delayMs) =>
      (slow ??= startLatencyProxy({ target: server.endpoint, delayMs }).then((proxy) => {
        stage.atEnd('proxy', () => proxy.close());
        return proxy.endpoint;
      })),
    files(set) {
      let files = uploaded.get(set.folder);
      if (files === undefined) uploaded.set(set.folder, (files = upload(set)));
      return files;
    },
    nativeBig: () => bigPath,
    nativeFiles: (set) => path.join(native, set.folder),
  };
}
