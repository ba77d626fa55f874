/**
 * Messages of the lease stream as they travel (lib/rpc/proto/origin.proto), and as both machines know them.
 *
 * What comes from the other side is checked here: numbers are whole and in range, lists and texts are bounded. What
 * makes no sense is an RpcError `protocol` and ends the stream.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Epoch, InodeNumber, SessionId } from '../base/brand.ts';
import type * as wire from '../rpc/gen/origin_pb.js';
import { PROTOCOL_VERSION } from '../rpc/protocol-version.ts';
import { RpcError } from '../rpc/rpc-errors.ts';
import type { Grant, LeasedName, LeaseReference, OriginMessage, SatelliteMessage } from './lease.ts';

/** Of one message; more is a fault of the other side, whose limits are far below. */
const LIST_ITEMS_MAX = 200_000;
const HOST_CHARACTERS_MAX = 255;
const LABELS_MAX = 32;
const LABEL_CHARACTERS_MAX = 256;
/** From the shortest period that anybody sets to the longest term. */
const PERIOD_MS_MAX = 24 * 60 * 60_000;

type SatelliteInit = MessageInitShape<typeof wire.SatelliteMessageSchema>;
type OriginInit = MessageInitShape<typeof wire.OriginMessageSchema>;
export type InodeInit = MessageInitShape<typeof wire.InodeSchema>;

// --- From satellite to origin ---

export function encodeSatelliteMessage(message: SatelliteMessage, exportName: string): SatelliteInit {
  switch (message.kind) {
    case 'hello': {
      const { host, labels, earlier } = message;
      const hello = { protocolVersion: PROTOCOL_VERSION, exportName, host, labels: { ...labels } };
      if (earlier === undefined) return { message: { case: 'hello', value: hello } };
      const { session, epoch, lastSequence, reclaim } = earlier;
      const named = {
        session,
        epoch: BigInt(epoch),
        lastSequence: BigInt(lastSequence),
        reclaim: [...reclaim],
      };
      return { message: { case: 'hello', value: { ...hello, ...named } } };
    }
    case 'heartbeat':
      return { message: { case: 'heartbeat', value: { number: BigInt(message.number) } } };
    case 'acknowledgement': {
      const { sequence, released } = message;
      const value = { sequence: BigInt(sequence), released: [...released] };
      return { message: { case: 'acknowledgement', value } };
    }
    case 'release':
      return { message: { case: 'release', value: { directories: [...message.directories] } } };
    case 'goodbye':
      return { message: { case: 'goodbye', value: {} } };
  }
}

/** @throws RpcError `protocol`, and `unsupported` for a hello of another release */
export function decodeSatelliteMessage({ message }: wire.SatelliteMessage): SatelliteMessage {
  switch (message.case) {
    case 'hello':
      return decodeHello(message.value);
    case 'heartbeat':
      return { kind: 'heartbeat', number: whole(message.value.number) };
    case 'acknowledgement': {
      const { sequence, released } = message.value;
      return { kind: 'acknowledgement', sequence: whole(sequence), released: directories(released) };
    }
    case 'release':
      return { kind: 'release', directories: directories(message.value.directories) };
    case 'goodbye':
      return { kind: 'goodbye' };
    case undefined:
      throw nonsense('a message of no kind that this release knows');
  }
}

function decodeHello(hello: wire.Hello): SatelliteMessage {
  const { protocolVersion, host, labels, session, epoch, lastSequence, reclaim } = hello;
  if (protocolVersion !== PROTOCOL_VERSION) {
    throw new RpcError(
      'unsupported',
      `the satellite speaks protocol ${protocolVersion}, this origin ${PROTOCOL_VERSION}`,
      { hint: 'run the same release on both' },
    );
  }
  if (host === '' || host.length > HOST_CHARACTERS_MAX) throw nonsense('the name of a host');
  const entries = Object.entries(labels);
  const isLong = (text: string): boolean => text.length > LABEL_CHARACTERS_MAX;
  if (entries.length > LABELS_MAX || entries.some((entry) => entry.some(isLong))) throw nonsense('labels');
  const earlier =
    session === ''
      ? undefined
      : {
          session: session as SessionId,
          epoch: whole(epoch) as Epoch,
          lastSequence: whole(lastSequence),
          reclaim: bounded(reclaim).map(decodeReference),
        };
  return { kind: 'hello', host, labels, earlier };
}

// --- From origin to satellite ---

export function encodeOriginMessage(message: OriginMessage<InodeInit>): OriginInit {
  switch (message.kind) {
    case 'welcome': {
      const { session, epoch, termMs, heartbeatMs, resumed, reclaimed } = message;
      const value = {
        session,
        epoch: BigInt(epoch),
        termMs,
        heartbeatMs,
        resumed,
        reclaimed: [...reclaimed],
      };
      return { message: { case: 'welcome', value } };
    }
    case 'heartbeat-answer': {
      const { number, termMs } = message;
      return { message: { case: 'heartbeatAnswer', value: { number: BigInt(number), termMs } } };
    }
    case 'withdraw': {
      const value = { names: [...message.names], moved: [...message.moved] };
      return { sequence: BigInt(message.sequence), message: { case: 'withdraw', value } };
    }
    case 'update': {
      const names = message.names.map(({ name, inode }) =>
        inode === undefined ? { name } : { name, inode },
      );
      return { sequence: BigInt(message.sequence), message: { case: 'update', value: { names } } };
    }
    case 'recall': {
      const value = { leases: [...message.leases] };
      return { sequence: BigInt(message.sequence), message: { case: 'recall', value } };
    }
  }
}

/**
 * @param toInode throws for what makes no sense
 * @throws RpcError `protocol`
 */
export function decodeOriginMessage<Inode>(
  { sequence, message }: wire.OriginMessage,
  toInode: (inode: wire.Inode) => Inode,
): OriginMessage<Inode> {
  switch (message.case) {
    case 'welcome': {
      const { session, epoch, termMs, heartbeatMs, resumed, reclaimed } = message.value;
      if (session === '') throw nonsense('a session without an identity');
      if (termMs > PERIOD_MS_MAX || heartbeatMs === 0 || heartbeatMs > PERIOD_MS_MAX)
        throw nonsense('a lease term');
      return {
        kind: 'welcome',
        session: session as SessionId,
        epoch: whole(epoch) as Epoch,
        termMs,
        heartbeatMs,
        resumed,
        reclaimed: bounded(reclaimed).map(decodeReference),
      };
    }
    case 'heartbeatAnswer': {
      const { number, termMs } = message.value;
      if (termMs > PERIOD_MS_MAX) throw nonsense('a lease term');
      return { kind: 'heartbeat-answer', number: whole(number), termMs };
    }
    case 'withdraw': {
      const { names, moved } = message.value;
      return {
        kind: 'withdraw',
        sequence: whole(sequence),
        names: bounded(names).map(decodeName),
        moved: directories(moved),
      };
    }
    case 'update':
      return {
        kind: 'update',
        sequence: whole(sequence),
        names: bounded(message.value.names).map(({ name, inode }) => {
          if (name === undefined) throw nonsense('an update without a name');
          return { name: decodeName(name), inode: inode === undefined ? undefined : toInode(inode) };
        }),
      };
    case 'recall':
      return {
        kind: 'recall',
        sequence: whole(sequence),
        leases: bounded(message.value.leases).map(decodeReference),
      };
    case 'policies':
    case undefined:
      throw nonsense('a message of no kind that this release knows');
  }
}

// --- With answers ---

export function encodeGrant({ sequence, lease }: Grant): MessageInitShape<typeof wire.GrantSchema> {
  return { sequence: BigInt(sequence), lease };
}

/** @throws RpcError `protocol` */
export function decodeGrant(grant: wire.Grant | undefined): Grant | undefined {
  if (grant?.lease === undefined) return undefined;
  return { sequence: whole(grant.sequence), lease: decodeReference(grant.lease) };
}

function decodeName({ directory, name, attributesOnly }: wire.LeasedName): LeasedName {
  return { directory: inodeNumber(directory), name, attributesOnly };
}

function decodeReference({ directory, subtree }: wire.LeaseReference): LeaseReference {
  return { directory: inodeNumber(directory), subtree };
}

function directories(numbers: readonly bigint[]): InodeNumber[] {
  return bounded(numbers).map(inodeNumber);
}

function inodeNumber(number: bigint): InodeNumber {
  if (number <= 0n) throw nonsense('an inode number');
  return number as InodeNumber;
}

function whole(number: bigint): number {
  if (number < 0n || number > BigInt(Number.MAX_SAFE_INTEGER)) throw nonsense('a number');
  return Number(number);
}

function bounded<T>(list: readonly T[]): readonly T[] {
  if (list.length > LIST_ITEMS_MAX) throw nonsense('the length of a list');
  return list;
}

function nonsense(what: string): RpcError {
  return new RpcError('protocol', `the other side of the lease stream sent what makes no sense: ${what}`);
}
