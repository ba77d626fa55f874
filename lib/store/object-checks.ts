/** What every store refuses before it does anything: rules of S3 that the others share, so that data can move. */
import { type ObjectMetadata, StoreError } from './object-store.ts';

/** As in S3. */
export const KEY_BYTES_MAX = 1024;
/** Objects and prefixes of one page, as in S3. */
export const LIST_KEYS_MAX = 1000;
/** All names and values together, as in S3. */
const METADATA_BYTES_MAX = 2048;

/** Fails with `invalid-key` for what S3 refuses too: empty, over 1,024 bytes, no valid Unicode. */
export function checkKey(key: string): void {
  const fail = (why: string): never => {
    throw new StoreError('invalid-key', `key ${JSON.stringify(key.slice(0, 80))}: ${why}`);
  };
  if (key === '') fail('is empty');
  if (!key.isWellFormed()) fail('is not valid Unicode');
  if (key.length * 3 > KEY_BYTES_MAX && Buffer.byteLength(key) > KEY_BYTES_MAX) {
    fail(`is longer than ${KEY_BYTES_MAX} bytes`);
  }
}

/** Gives the metadata back, or none; fails with `invalid` for what an HTTP header cannot carry. */
export function checkMetadata(metadata: ObjectMetadata | undefined): ObjectMetadata {
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata ?? {})) {
    if (!/^[a-z0-9][a-z0-9._-]*$/.test(name) || !/^[\x20-\x7e]*$/.test(value)) {
      throw new StoreError(
        'invalid',
        `metadata ${JSON.stringify(name)}: no lower-case name with a printable ASCII value`,
      );
    }
    bytes += name.length + value.length;
  }
  if (bytes > METADATA_BYTES_MAX) {
    throw new StoreError('invalid', `metadata: ${bytes} bytes are more than ${METADATA_BYTES_MAX}`);
  }
  return metadata ?? {};
}
