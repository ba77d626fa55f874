/** Changes of an export through its origin: names by RPC, bytes straight to the object store. */
import { systemClock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type { ChangesOptions, ExportChanges, PutFile, PutResult } from '../cli/runtime.ts';
import { createOriginClient } from '../rpc/origin-client.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { openStore } from '../store/open-store.ts';
import { uploadParts } from './part-uploader.ts';

export function openChanges({ origin, exportName, credentials }: ChangesOptions): ExportChanges {
  const clock = systemClock;
  const client = createOriginClient({ address: origin, credentials, clock, deadlineMs: ORIGIN_DEADLINE_MS });
  const stores = new Map<string, ObjectStore>();
  const storeAt = (url: string): ObjectStore => {
    const store = stores.get(url) ?? openStore(url);
    stores.set(url, store);
    return store;
  };
  return {
    async put(path: string, file: PutFile): Promise<PutResult> {
      const begun = await client.beginUpload({ exportName, path, attributes: file.attributes });
      const { upload } = begun;
      try {
        const sent =
          file.content === undefined
            ? { parts: [], sizeBytes: 0 }
            : await uploadParts(
                { store: storeAt(begun.storeUrl), key: begun.objectKey, uploadId: begun.storeUpload },
                file.content,
                file.onSent,
              );
        const { inode } = await client.commitUpload({
          exportName,
          upload,
          parts: sent.parts.map((part) => ({ ...part, sizeBytes: BigInt(part.sizeBytes) })),
          sizeBytes: BigInt(sent.sizeBytes),
        });
        return { path, sizeBytes: sent.sizeBytes, version: inode?.version?.id };
      } catch (error) {
        await client.abortUpload({ exportName, upload }).catch((failure: unknown) => {
          throw new Error(`${describeError(error)} (and it stays begun: ${describeError(failure)})`, {
            cause: error,
          });
        });
        throw error;
      }
    },
    async remove(path, { recursive }) {
      return Number((await client.remove({ exportName, path, recursive })).removed);
    },
    async rename(from, to, { noReplace }) {
      await client.rename({ exportName, from, to, noReplace });
    },
    async makeDirectory(path, { parents, attributes }) {
      await client.makeDirectory({ exportName, path, parents, attributes });
    },
    async *refresh(path, { recursive }) {
      for await (const figures of client.refresh({ exportName, path, recursive })) {
        yield {
          directories: Number(figures.directories),
          names: Number(figures.names),
          added: Number(figures.added),
          changed: Number(figures.changed),
          gone: Number(figures.gone),
        };
      }
    },
    async close() {
      client.close();
      await Promise.all([...stores.values()].map((store) => store.close()));
    },
  };
}
