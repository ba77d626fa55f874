/**
 * What a store holds under one name: a file, a symlink, a directory, or nothing.
 *
 * An unknown name is asked for twice at once: the object itself, and the first key below `name/`. A directory needs no
 * object; where there is one (`name/`), it carries the directory's attributes.
 */
import type { Clock } from '../../base/clock.ts';
import type { ObjectHead, ObjectSummary } from '../../store/object-store.ts';
import { parsePosixMetadata, type PosixAttributes } from '../../store/posix-metadata.ts';
import type { CarriedAttributes, Found, IndexedVersion } from '../index/index-rows.ts';
import { extendedOf } from './extended-attributes.ts';
import type { StoreCalls } from './store-calls.ts';
import { versionIdOf } from './version-id.ts';

const NS_PER_MS = 1_000_000n;

export type FoundObject = Exclude<Found, { readonly kind: 'directory' }>;

export class StoreProbe {
  readonly #store: StoreCalls;
  readonly #identity: string;
  readonly #clock: Clock;

  constructor(options: { readonly store: StoreCalls; readonly identity: string; readonly clock: Clock }) {
    this.#store = options.store;
    this.#identity = options.identity;
    this.#clock = options.clock;
  }

  /**
   * @param options.known what a listing that has passed the name says it is: saves a call
   * @param options.only the other kind does not count
   * @throws OriginError
   */
  async find(
    key: string,
    options: {
      readonly known?: 'file' | 'directory' | undefined;
      readonly only?: 'object' | 'directory';
    } = {},
  ): Promise<Found | undefined> {
    const { known, only } = options;
    const [head, marker] = await Promise.all([
      known === 'directory' || only === 'directory' ? undefined : this.#store.head(key),
      known === 'file' || only === 'object' ? undefined : this.#findDirectory(key),
    ]);
    const found = marker ?? (head === undefined ? undefined : await this.foundObject(head));
    // What the listing met is no more: something else may have come in its place.
    return found === undefined && known !== undefined ? this.find(key) : found;
  }

  /** Whether any key lies below `key/`. */
  async hasDirectory(key: string): Promise<boolean> {
    const page = await this.#store.list({ prefix: `${key}/`, keysMax: 1 });
    return page.objects.length > 0;
  }

  /** What a listing alone tells of an object. */
  listed(object: ObjectSummary): Found {
    return {
      kind: 'file',
      version: this.#version(object, undefined),
      attributes: timesOf(object, {}),
      target: undefined,
    };
  }

  /** What a common prefix alone tells of a directory. */
  listedDirectory(): Found {
    const now = BigInt(Math.round(this.#clock.wallMs())) * NS_PER_MS;
    return { kind: 'directory', attributes: { modifiedNs: now, changedNs: now }, marked: false };
  }

  async #findDirectory(key: string): Promise<Found | undefined> {
    const page = await this.#store.list({ prefix: `${key}/`, keysMax: 1 });
    const [first] = page.objects;
    if (first === undefined) return undefined;
    const marker = first.key === `${key}/` ? await this.#store.head(first.key) : undefined;
    if (marker === undefined) return this.listedDirectory();
    return this.foundMarker(marker);
  }

  /** What the object of a directory tells. */
  foundMarker(marker: ObjectHead): Found {
    return { kind: 'directory', attributes: attributesOf(marker), marked: true };
  }

  /** What the object itself tells. */
  async foundObject(head: ObjectHead): Promise<FoundObject> {
    const carried = parsePosixMetadata(head.metadata);
    const version = this.#version(head, head.versionId);
    const attributes = attributesOf(head);
    // Another tool's symlink keeps its target in the object.
    const target =
      carried.kind === 'symlink' ? (carried.symlinkTarget ?? (await this.#store.readText(head))) : undefined;
    if (target === undefined || target === '' || target.includes('\0')) {
      return { kind: 'file', version, attributes, target: undefined };
    }
    return { kind: 'symlink', version, attributes, target };
  }

  #version(object: ObjectSummary, objectVersion: string | undefined): IndexedVersion {
    const { key, entityTag, sizeBytes } = object;
    const id = versionIdOf({ identity: this.#identity, key, entityTag, sizeBytes });
    const storedS = Math.floor(object.modifiedMs / 1_000);
    return { id, objectKey: key, objectVersion, entityTag, sizeBytes, storedS };
  }
}

/** What an object's metadata says. */
function attributesOf(head: ObjectHead): CarriedAttributes {
  const extended = extendedOf(head.metadata);
  const attributes = timesOf(head, parsePosixMetadata(head.metadata));
  return extended === undefined ? attributes : { ...attributes, extended };
}

function timesOf(object: ObjectSummary, carried: PosixAttributes): CarriedAttributes {
  const storedNs = BigInt(Math.round(object.modifiedMs)) * NS_PER_MS;
  return {
    mode: carried.mode,
    uid: carried.uid,
    gid: carried.gid,
    modifiedNs: carried.modifiedNs ?? storedNs,
    changedNs: storedNs,
  };
}
