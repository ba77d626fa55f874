/** A child process: opens, reads whole and closes its share of a set of files, one after the other. */
import fs from 'node:fs';
import path from 'node:path';
import { fileName } from './file-name.ts';

export interface FileReaderTask {
  readonly root: string;
  /** Takes the files `first`, `first + step`, … below `count`. */
  readonly first: number;
  readonly step: number;
  readonly count: number;
  readonly fileBytes: number;
}

export interface FileReaderAnswer {
  readonly error?: string;
}

function readShare({ root, first, step, count, fileBytes }: FileReaderTask): FileReaderAnswer {
  const buffer = Buffer.alloc(fileBytes + 1);
  try {
    for (let index = first; index < count; index += step) {
      const file = path.join(root, fileName(index));
      const fd = fs.openSync(file, 'r');
      let bytes = 0;
      for (let read = 1; read > 0;)
        bytes += read = fs.readSync(fd, buffer, bytes, buffer.length - bytes, bytes);
      fs.closeSync(fd);
      if (bytes !== fileBytes || buffer.readUInt32LE(0) !== index) return { error: `${file}: wrong content` };
    }
    return {};
  } catch (error) {
    return { error: String(error) };
  }
}

process.on('message', (task: FileReaderTask) => process.send!(readShare(task)));
process.send!('here');
