/** A program that writes: files of its share, one after the other, as it is told. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';

const WRITE_BYTES = 1024 * 1024;

export interface FileWriterTask {
  /** The files of this one. */
  readonly files: readonly string[];
  readonly fileBytes: number;
  readonly sync: boolean;
}

export interface FileWriterAnswer {
  readonly error?: string;
}

// Made before the clock runs. No two pieces of a file are the same.
const piece = randomBytes(WRITE_BYTES);
let pieces = 0;

function write({ files, fileBytes, sync }: FileWriterTask): void {
  for (const file of files) {
    const fd = fs.openSync(file, 'w');
    for (let at = 0; at < fileBytes;) {
      piece.writeUInt32LE(++pieces);
      const length = Math.min(WRITE_BYTES, fileBytes - at);
      for (let done = 0; done < length;) done += fs.writeSync(fd, piece, done, length - done);
      at += length;
    }
    if (sync) fs.fsyncSync(fd);
    fs.closeSync(fd);
  }
}

process.on('message', (task: FileWriterTask) => {
  let answer: FileWriterAnswer;
  try {
    write(task);
    answer = {};
  } catch (error) {
    answer = { error: String(error) };
  }
  process.send?.(answer);
});
process.send?.('ready');
