/**
 * Names straight from the origin: each call asks, nothing is kept. And the stream of the lease session with it.
 *
 * Guarantees: an answer that makes no sense (another release, a fault, a wrong server) is a `protocol` error of that
 * one call, never wrong data and never a crash; each call ends within ORIGIN_DEADLINE_MS or with the caller's signal.
 */
import { type Epoch, type InodeNumber, ROOT_INODE, type SessionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { LIST_PAGE_ENTRIES, ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type { Grant } from '../lease/lease.ts';
import { decodeGrant, decodeOriginMessage, encodeSatelliteMessage } from '../lease/lease-messages.ts';
import type { Grant as GrantMessage, PolicySet } from '../rpc/gen/origin_pb.js';
import { PROTOCOL_VERSION } from '../rpc/protocol-version.ts';
import type { ClientCredentialFiles } from '../rpc/client-credentials.ts';
import { createOriginClient, type OriginClient } from '../rpc/origin-client.ts';
import type { Logger } from '../telemetry/log.ts';
import type { VersionSource } from '../tiers/tier.ts';
import type { LeaseStream, LeaseStreamListener } from './lease-session.ts';
import { compareNames } from './name-order.ts';
import { NamespaceError, type NamespaceOptions } from './namespace.ts';
import { attributesOf, check, checkName, translated } from './origin-answers.ts';
import { OriginChanges } from './origin-changes.ts';
import type { RemoteChanges } from './remote-changes.ts';
import type { RemoteNames, RemoteOptions } from './remote-names.ts';

/** Of a question whose answer is for one use. */
const NO_SESSION = '' as SessionId;

export interface ExportInfo {
  /** Another id means that inode numbers have another meaning. */
  readonly exportId: string;
  readonly storeUrl: string;
  readonly readOnly: boolean;
  readonly epoch: Epoch;
  /** Globs of paths that never change. */
  readonly immutable: readonly string[];
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
  readonly remoteChanges: RemoteChanges;
  /** For the driver of the lease session. */
  readonly openStream: (listener: LeaseStreamListener, onPolicies: (set: PolicySet) => void) => LeaseStream;
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
      immutable: opened.immutable,
    };
    logger.info({ origin: address, export: exportName, epoch: exportInfo.epoch }, 'opened export');
    return {
      remote: new OriginNames({ client, exportName }),
      remoteChanges: new OriginChanges({ client, exportName }),
      openStream: (listener, onPolicies) => openStream(listener, { client, exportName, onPolicies }),
      exportInfo,
    };
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

  lookup(parent: InodeNumber, name: string, { session = NO_SESSION, ...bounds }: RemoteOptions = {}) {
    const exportName = this.#exportName;
    return translated(async () => {
      const { inode, grant } = await this.#client.lookup({ exportName, parent, name, session }, bounds);
      const attributes = inode === undefined ? undefined : attributesOf(inode, exportName);
      return { attributes, grant: grantOf(grant, session) };
    });
  }

  attributes(inode: InodeNumber, { session = NO_SESSION, ...bounds }: RemoteOptions = {}) {
    const exportName = this.#exportName;
    return translated(async () => {
      const answer = await this.#client.getAttributes({ exportName, inode, session }, bounds);
      const attributes = attributesOf(answer.inode, exportName);
      check(attributes.inode === inode, 'an answer is about the inode that was asked for');
      const grant = grantOf(answer.grant, session);
      const { name } = answer;
      const parent = answer.parent as InodeNumber;
      if (grant !== undefined && inode !== ROOT_INODE) checkName(name);
      check(grant === undefined || parent > 0n, 'what a lease covers lies in a directory');
      return { attributes, parent, name, grant };
    });
  }

  list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    { session = NO_SESSION, ...bounds }: RemoteOptions = {},
  ) {
    const exportName = this.#exportName;
    const after = page.after ?? '';
    const entriesMax = Math.min(page.entriesMax, LIST_PAGE_ENTRIES);
    const request = { exportName, directory, after, entriesMax, session };
    return translated(async () => {
      const answer = await this.#client.listDirectory(request, bounds);
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
    });
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

/** A lease that was not asked for covers nothing. @throws RpcError */
function grantOf(grant: GrantMessage | undefined, session: SessionId): Grant | undefined {
  return session === NO_SESSION ? undefined : decodeGrant(grant);
}

/** A message that makes no sense breaks the stream. */
function openStream(
  listener: LeaseStreamListener,
  options: {
    readonly client: OriginClient;
    readonly exportName: string;
    readonly onPolicies: (set: PolicySet) => void;
  },
): LeaseStream {
  const { client, exportName, onPolicies } = options;
  const handle = client.openLeaseStream({
    ...listener,
    message(message) {
      // Policies come by the same stream, and are no part of the protocol of leases.
      if (message.message.case === 'policies') return onPolicies(message.message.value);
      listener.message(decodeOriginMessage(message, (inode) => attributesOf(inode, exportName)));
    },
  });
  return {
    send: (message) => handle.send(encodeSatelliteMessage(message, exportName)),
    end: () => handle.end(),
  };
}
