/**
 * Names straight from the origin: each call asks, nothing is kept.
 *
 * Guarantees: an answer that makes no sense (another release, a fault, a wrong server) is a `protocol` error of that
 * one call, never wrong data and never a crash; each call ends within ORIGIN_DEADLINE_MS or with the caller's signal.
 */
import { type Epoch, type InodeNumber, ROOT_INODE, type SessionId, type VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { LIST_PAGE_ENTRIES, NAME_BYTES_MAX, ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type { Grant } from '../lease/lease.ts';
import type { Grant as GrantMessage, Inode } from '../rpc/gen/origin_pb.js';
import { PROTOCOL_VERSION } from '../rpc/protocol-version.ts';
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';
import { createOriginClient, type OriginClient } from '../rpc/origin-client.ts';
import { RpcError } from '../rpc/rpc-errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { VersionSource } from '../tiers/tier.ts';
import {
  type InodeAttributes,
  type InodeKind,
  NamespaceError,
  type NamespaceErrorCode,
  type NamespaceOptions,
} from './namespace.ts';
import { compareNames } from './name-order.ts';
import type { RemoteNames, RemoteOptions } from './remote-names.ts';

/** Of a question whose answer is for one use. */
const NO_SESSION = '' as SessionId;
/** 2^32 - 1 is no owner: it means "unchanged". */
const ID_MAX = 0xffff_ffff;

export interface ExportInfo {
  /** Another id means that inode numbers have another meaning. */
  readonly exportId: string;
  readonly storeUrl: string;
  readonly readOnly: boolean;
  readonly epoch: Epoch;
}

/**
 * Opens one export of an origin; the first call, so a wrong address or name fails here.
 *
 * @param options.address `host:port`
 * @param options.host shown by the origin
 * @throws NamespaceError, UsageError
 */
export async function openOriginNames(options: {
  readonly address: string;
  readonly credentials?: ClientCredentialFiles | undefined;
  readonly exportName: string;
  readonly host: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal?: AbortSignal;
}): Promise<{
  readonly remote: RemoteNames;
  readonly client: OriginClient;
  readonly exportInfo: ExportInfo;
}> {
  const { address, credentials, exportName, host, clock, logger, signal } = options;
  const client = createOriginClient({ address, credentials, clock, logger, deadlineMs: ORIGIN_DEADLINE_MS });
  try {
    const opened = await translated(() =>
      client.openExport(
        { protocolVersion: PROTOCOL_VERSION, exportName, host },
        signal === undefined ? {} : { signal },
      ),
    );
    if (opened.protocolVersion !== PROTOCOL_VERSION) {
      throw new NamespaceError(
        'protocol',
        `the origin speaks protocol ${opened.protocolVersion}, this satellite ${PROTOCOL_VERSION}`,
        { hint: 'run the same release on both' },
      );
    }
    const root = attributesOf(opened.root, exportName);
    check(root.kind === 'directory', 'a root is a directory');
    check(opened.storeUrl !== '' && opened.exportId !== '', 'an export has a store and an id');
    const exportInfo = {
      exportId: opened.exportId,
      storeUrl: opened.storeUrl,
      readOnly: opened.readOnly,
      epoch: Number(opened.epoch) as Epoch,
    };
    logger.info({ origin: address, export: exportName, epoch: exportInfo.epoch }, 'opened export');
    return { remote: new OriginNames({ client, exportName }), client, exportInfo };
  } catch (error) {
    client.close();
    throw error;
  }
}

export class OriginNames implements RemoteNames {
  readonly #client: OriginClient;
  readonly #exportName: string;

  constructor(options: { readonly client: OriginClient; readonly exportName: string }) {
    this.#client = options.client;
    this.#exportName = options.exportName;
  }

  async lookup(parent: InodeNumber, name: string, { session = NO_SESSION, signal }: RemoteOptions = {}) {
    const exportName = this.#exportName;
    const answer = await translated(() =>
      this.#client.lookup({ exportName, parent, name, session }, { ...(signal && { signal }) }),
    );
    const { inode, grant } = answer;
    return {
      attributes: inode === undefined ? undefined : attributesOf(inode, exportName),
      grant: grantOf(grant, session),
    };
  }

  async attributes(inode: InodeNumber, { session = NO_SESSION, signal }: RemoteOptions = {}) {
    const exportName = this.#exportName;
    const answer = await translated(() =>
      this.#client.getAttributes({ exportName, inode, session }, { ...(signal && { signal }) }),
    );
    const attributes = attributesOf(answer.inode, exportName);
    check(attributes.inode === inode, 'an answer is about the inode that was asked for');
    const grant = grantOf(answer.grant, session);
    const { name } = answer;
    const parent = answer.parent as InodeNumber;
    if (grant !== undefined && inode !== ROOT_INODE) checkName(name);
    check(grant === undefined || parent > 0n, 'what a lease covers lies in a directory');
    return { attributes, parent, name, grant };
  }

  async list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    { session = NO_SESSION, signal }: RemoteOptions = {},
  ) {
    const exportName = this.#exportName;
    const after = page.after ?? '';
    const entriesMax = Math.min(page.entriesMax, LIST_PAGE_ENTRIES);
    const answer = await translated(() =>
      this.#client.listDirectory(
        { exportName, directory, after, entriesMax, session },
        { ...(signal && { signal }) },
      ),
    );
    let last = after;
    const entries = answer.entries.map(({ name, inode }) => {
      checkName(name);
      check(compareNames(last, name) < 0, 'entries are in order');
      last = name;
      return { name, attributes: attributesOf(inode, exportName) };
    });
    check(!answer.more || entries.length > 0, 'a page that is not the last has entries');
    for (const name of answer.withdrawn) checkName(name);
    const grant = grantOf(answer.grant, session);
    return { entries, next: answer.more ? last : undefined, withdrawn: answer.withdrawn, grant };
  }

  async usage(options: NamespaceOptions = {}) {
    const exportName = this.#exportName;
    const answer = await translated(() => this.#client.getUsage({ exportName }, options));
    const { bytesTotal, bytesUsed, inodesTotal, inodesUsed } = answer;
    return { bytesTotal, bytesUsed, inodesTotal, inodesUsed };
  }

  async reportStale(
    inode: InodeNumber,
    source: VersionSource,
    options: NamespaceOptions = {},
  ): Promise<void> {
    const exportName = this.#exportName;
    await translated(() =>
      this.#client.reportStale({ exportName, inode, versionId: source.version }, options),
    );
  }

  async close(): Promise<void> {
    this.#client.close();
  }
}

/** What a call's failure means for names. The reason of the caller's own signal passes as it is. */
async function translated<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw new NamespaceError(codeOf(error), error.message, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}

function codeOf({ code }: RpcError): NamespaceErrorCode {
  switch (code) {
    case 'not-found':
    case 'not-directory':
    case 'denied':
    case 'timeout':
    case 'unavailable':
      return code;
    case 'invalid':
    case 'unsupported':
    case 'protocol':
    case 'failed':
    case 'listen':
    case 'exists':
    case 'is-directory':
    case 'not-empty':
      return 'protocol';
  }
}

export function attributesOf(inode: Inode | undefined, exportName: string): InodeAttributes {
  check(inode !== undefined, 'an answer has the inode');
  const { kind, version, target } = inode;
  check(isKind(kind), 'an inode is a file, a directory or a symlink');
  check(inode.inode > 0n, 'an inode number is positive');
  check(inode.mode <= 0o7777, 'a mode has permission bits only');
  check(inode.uid < ID_MAX && inode.gid < ID_MAX, 'an owner is a number below the largest');
  check((kind === 'file') === (version !== undefined), 'files have a version, and nothing else has');
  check((kind === 'symlink') === (target !== undefined), 'symlinks have a target, and nothing else has');
  check(target !== '' && target?.includes('\0') !== true, 'a target is a path');
  const source = version === undefined ? undefined : sourceOf(version, exportName);
  const sizeBytes = safeSize(inode.sizeBytes);
  check(source === undefined || source.sizeBytes === sizeBytes, 'a file is as long as its version');
  return {
    inode: inode.inode as InodeNumber,
    kind,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    links: inode.links,
    sizeBytes,
    modifiedNs: inode.modifiedNs,
    changedNs: inode.changedNs,
    source,
    target,
  };
}

function sourceOf(version: NonNullable<Inode['version']>, exportName: string): VersionSource {
  check(/^[0-9a-f]{32}$/.test(version.id), 'a version id is 32 hexadecimal digits');
  check(version.objectKey !== '' && version.entityTag !== '', 'a version has a key and an entity tag');
  return {
    version: version.id as VersionId,
    exportName,
    objectKey: version.objectKey,
    objectVersion: version.objectVersion,
    entityTag: version.entityTag,
    sizeBytes: safeSize(version.sizeBytes),
  };
}

function isKind(kind: string): kind is InodeKind {
  return kind === 'file' || kind === 'directory' || kind === 'symlink';
}

function safeSize(size: bigint): number {
  check(size >= 0n && size <= BigInt(Number.MAX_SAFE_INTEGER), 'a size fits 53 bits');
  return Number(size);
}

function checkName(name: string): void {
  const fits = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);
  check(fits && Buffer.byteLength(name) <= NAME_BYTES_MAX, 'a name can be a name');
}

/** A lease that was not asked for covers nothing. */
function grantOf(grant: GrantMessage | undefined, session: SessionId): Grant | undefined {
  if (grant === undefined || session === NO_SESSION) return undefined;
  const { lease } = grant;
  check(lease !== undefined && lease.directory > 0n, 'a grant names its lease');
  return {
    sequence: Number(grant.sequence),
    lease: { directory: lease.directory as InodeNumber, subtree: lease.subtree },
  };
}

function check(condition: unknown, sentence: string): asserts condition {
  if (condition) return;
  throw new NamespaceError('protocol', `the origin's answer makes no sense: ${sentence}`, {
    hint: 'run the same release on the origin and on this host',
  });
}
