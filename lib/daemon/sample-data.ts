/**
 * The data set of `perigee up --sample`: shards and small files as a training job reads them, made from a seed, so
 * that every run makes the same bytes. It is written through the object store, as any other client would.
 */
import { createHash } from 'node:crypto';
import { MIB } from '../base/limits.ts';
import { seededPrng } from '../base/prng.ts';
import { type ObjectStore } from '../store/object-store.ts';

const SHARDS = 4;
const SHARD_BYTES = 16 * MIB;
const IMAGES = 100;
const IMAGE_BYTES = 100 * 1024;

export async function writeSampleData(store: ObjectStore): Promise<void> {
  const prng = seededPrng(1);
  const sums: string[] = [];
  const put = async (key: string, bytes: number): Promise<void> => {
    const body = Buffer.alloc(bytes);
    for (let at = 0; at + 4 <= bytes; at += 4) body.writeUInt32LE(prng.below(2 ** 32), at);
    sums.push(`${createHash('sha256').update(body).digest('hex')}  ${key}`);
    await store.put(key, body);
  };
  for (let shard = 0; shard < SHARDS; shard++) await put(`shards/shard-${pad(shard, 4)}.tar`, SHARD_BYTES);
  for (let image = 0; image < IMAGES; image++) await put(`images/${pad(image, 5)}.jpg`, IMAGE_BYTES);
  await store.put('SHA256SUMS', Buffer.from(`${sums.join('\n')}\n`));
}

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
