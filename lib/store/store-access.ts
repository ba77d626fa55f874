/** How a thread reads from a store by itself, without the store's client: what it must know, and what it then can. */
import type { Credentials } from './s3-signature.ts';

/** Where a bucket is asked. */
export interface S3Place {
  readonly protocol: string;
  readonly hostname: string;
  readonly port: number | undefined;
  readonly host: string;
  /** Before the key, with the bucket where the style wants it. */
  readonly path: string;
  readonly signingRegion: string | undefined;
}

/**
 * What another thread needs to read objects by itself, without the store's client: plain data, with secrets, so it is
 * neither logged nor kept anywhere.
 */
export interface StoreAccess {
  readonly place: S3Place;
  readonly region: string;
  readonly credentials: Credentials;
  /** What the server's clock is ahead. */
  readonly clockOffsetMs: number;
  /** When the credentials end; undefined: not known to end. */
  readonly expiresWallMs: number | undefined;
  /** Before each key. */
  readonly prefix: string;
  /** Certificates to trust instead of Node's own. */
  readonly ca: readonly string[] | undefined;
  /** Entity tags of MD5's form are MD5. */
  readonly md5Tags: boolean;
}

export interface QuickRead {
  readonly key: string;
  readonly entityTag: string;
  readonly versionId: string | undefined;
  /** Of the object. */
  readonly sizeBytes: number;
  readonly offset: number;
  readonly length: number;
  /** Has room for `length` bytes. */
  readonly into: Buffer;
}

/** Reads small pieces of objects of one store, each by one plain attempt. */
export interface QuickReader {
  /** True: `into` holds the bytes of that very version. False: anything else; ask in the ordinary way, and learn what is the matter. Never fails. */
  read(request: QuickRead): Promise<boolean>;
  /** What is under way answers false. */
  close(): void;
}
