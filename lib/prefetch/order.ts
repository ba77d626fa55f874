/** One order of the planner: a version, why it is wanted, and how far it has come. */
import type { VersionId } from '../base/brand.ts';

export interface OrderEvent {
  readonly kind: 'order';
  readonly version: VersionId;
  readonly sizeBytes: number;
  readonly lane: string;
  /** The policy or job that wants it. */
  readonly claim: string;
  /** A reader is near: it goes before what was ordered for some time later. */
  readonly isSoon: boolean;
  /** It waits until files before it were read; otherwise it is declined when the share of the cache is taken. */
  readonly waitsForRoom: boolean;
  /** A program has it open already: it is not held for another one. */
  readonly isOpened: boolean;
  /** Where the reader is; what lies before it comes last. */
  readonly fromOffset: number;
}

export interface Order {
  readonly version: VersionId;
  readonly sizeBytes: number;
  readonly waitsForRoom: boolean;
  readonly fromOffset: number;
  readonly claims: Set<string>;
  lane: string;
  isSoon: boolean;
  phase: 'waiting' | 'fetching' | 'held';
  /** The driver has it open. */
  isBegun: boolean;
  /** A program has opened it. */
  isOpened: boolean;
  cachedBytes: number;
  /** By this order. */
  fetchedBytes: number;
  /** From `fromOffset` on, round the end. */
  grantedBytes: number;
  underWayBytes: number;
  /** Under way; its opening is one. */
  requests: number;
  attempts: number;
  notBeforeMs: number;
  /** Of what is held. */
  untilMs: number;
}

export function newOrder(event: OrderEvent): Order {
  return {
    version: event.version,
    sizeBytes: event.sizeBytes,
    waitsForRoom: event.waitsForRoom,
    fromOffset: event.fromOffset,
    claims: new Set([event.claim]),
    lane: event.lane,
    isSoon: event.isSoon,
    phase: 'waiting',
    isBegun: false,
    isOpened: event.isOpened,
    cachedBytes: 0,
    fetchedBytes: 0,
    grantedBytes: 0,
    underWayBytes: 0,
    requests: 0,
    attempts: 0,
    notBeforeMs: 0,
    untilMs: 0,
  };
}

/** The next bytes that were not granted: whole blocks, from the reader's place to the end, then from the beginning. */
export function nextRange(
  { sizeBytes, fromOffset, grantedBytes }: Order,
  { blockBytes, bytesMax }: { readonly blockBytes: number; readonly bytesMax: number },
): { readonly offset: number; readonly length: number } {
  const begin = Math.floor(Math.min(fromOffset, sizeBytes - 1) / blockBytes) * blockBytes;
  const behind = sizeBytes - begin;
  const isBehind = grantedBytes < behind;
  const offset = isBehind ? begin + grantedBytes : grantedBytes - behind;
  const end = isBehind ? sizeBytes : begin;
  const blocks = Math.max(1, Math.floor(bytesMax / blockBytes));
  return { offset, length: Math.min(blocks * blockBytes, end - offset) };
}
