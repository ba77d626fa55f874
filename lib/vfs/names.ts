/** Names between the kernel's bytes and the namespace's text. A name that is not UTF-8 exists nowhere in an export. */
import { isUtf8 } from 'node:buffer';
import { NAME_BYTES_MAX } from '../base/limits.ts';

export function decodeName(bytes: Uint8Array): string | undefined {
  if (!isUtf8(bytes)) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/** Undefined for what cannot be a file name: one such record would make the kernel refuse the whole directory. */
export function encodeName(name: string): Uint8Array | undefined {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    return undefined;
  }
  if (!name.isWellFormed()) return undefined;
  const bytes = Buffer.from(name, 'utf8');
  return bytes.length > NAME_BYTES_MAX ? undefined : bytes;
}
