/** Files of prefetching: what is remembered over restarts, beside the tier's own files, and manifests of people. */
import fs from 'node:fs';
import path from 'node:path';
import { MANIFEST_BYTES_MAX } from '../prefetch/manifest.ts';
import type { MemoryStore } from '../prefetch/prefetch-memory.ts';

const FILE_NAME = 'prefetch.json';

export function prefetchMemoryFile(cacheDirectory: string): MemoryStore {
  const file = path.join(cacheDirectory, FILE_NAME);
  return {
    load() {
      try {
        return fs.readFileSync(file, 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    save(text) {
      // A rename is whole or not at all; what is lost with the power is advice.
      fs.writeFileSync(`${file}.new`, text);
      fs.renameSync(`${file}.new`, file);
    },
  };
}

/** @throws if it is missing, too long, or no file */
export async function readManifestFile(file: string): Promise<string> {
  const { size } = await fs.promises.stat(file);
  if (size > MANIFEST_BYTES_MAX) throw new Error(`it has ${size} bytes, over ${MANIFEST_BYTES_MAX}`);
  return fs.promises.readFile(file, 'utf8');
}
