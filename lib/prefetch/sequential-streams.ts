/**
 * Finds sequential streams among the reads of one version, and says how far to read ahead of each.
 *
 * Streams belong to the version, not to a handle: loader processes share descriptors, so that interleaved streams of
 * one handle, and one stream spread over many handles, look the same here. A read that goes on where a stream ended
 * belongs to it; the first such read confirms the stream and opens its window. The window grows with what the stream
 * has read, up to a limit that the confirmed streams of the version share.
 *
 * Pure: `(state, event, now) → (state, effects)`. Invariants: at most `STREAMS_MAX` streams; effects lie inside the
 * file; a stream never asks for the same byte twice; `complete` is said once.
 */
import { BLOCK_BYTES_DEFAULT, FUSE_READ_BYTES_MAX, MIB } from '../base/limits.ts';
import { invariant } from '../base/errors.ts';
import type { AccessAdvice } from './access-observer.ts';

/** Streams that are told apart in one version. */
export const STREAMS_MAX = 32;
/** First window of a stream, in bytes ahead of its reader. */
export const WINDOW_BYTES_MIN = 8 * MIB;
/** The most that the windows of one version share, each having the least at least: hides 20 ms of latency at several GB/s. */
export const WINDOW_BYTES_MAX = 128 * MIB;
/** The window is this many times what the stream has read so far. */
const WINDOW_GROWTH = 4;
/** A window is extended in steps of this part of itself, so that requests grow with it. */
const WINDOW_STEPS = 8;
/** How far a read may miss the end of a confirmed stream: the kernel sends its reads ahead out of order. */
const SLACK_BYTES = 4 * FUSE_READ_BYTES_MAX;
/** A confirmed stream without reads for so long may be replaced by another. */
const STREAM_IDLE_MS = 10_000;
/** Sequential bytes of a version after which all of it is worth having. */
export const COMPLETE_AFTER_BYTES = 16 * MIB;
/** Ends of windows lie on these boundaries: blocks are fetched whole. */
const ALIGN_BYTES = BLOCK_BYTES_DEFAULT;

invariant(WINDOW_BYTES_MIN % ALIGN_BYTES === 0, 'the first window is whole blocks');
invariant(WINDOW_BYTES_MAX >= WINDOW_BYTES_MIN, 'a window can grow');

interface Stream {
  /** Where the next read of this stream is expected. */
  readonly nextOffset: number;
  /** Everything before it was asked for, by reads or by effects. */
  readonly aheadOffset: number;
  readonly readBytes: number;
  readonly readMs: number;
  readonly confirmed: boolean;
}

export interface StreamsState {
  readonly sizeBytes: number;
  readonly streams: readonly Stream[];
  readonly completing: boolean;
}

export interface StreamsEvent {
  readonly kind: 'read';
  readonly offset: number;
  readonly length: number;
  /** What the windows of this version may take together now, each having the least at least. */
  readonly windowBytesMax: number;
}

export interface StreamsStep {
  readonly state: StreamsState;
  readonly effects: readonly AccessAdvice[];
}

const NO_EFFECTS: readonly AccessAdvice[] = [];

export function initialStreams(sizeBytes: number): StreamsState {
  return { sizeBytes, streams: [], completing: false };
}

export function stepStreams(state: StreamsState, event: StreamsEvent, nowMs: number): StreamsStep {
  const { sizeBytes } = state;
  const end = Math.min(event.offset + event.length, sizeBytes);
  if (end <= event.offset) return { state, effects: NO_EFFECTS };
  const at = nearestStream(state.streams, event);
  if (at === -1) return { state: begin(state, event, { end, nowMs }), effects: NO_EFFECTS };

  const old = state.streams[at] as Stream;
  const nextOffset = Math.max(old.nextOffset, end);
  const confirmed = old.confirmed || nextOffset > old.nextOffset;
  const others = state.streams.reduce((n, s, i) => (i !== at && isActive(s, nowMs) ? n + 1 : n), 0);
  let stream: Stream = {
    nextOffset,
    aheadOffset: Math.max(old.aheadOffset, nextOffset),
    readBytes: old.readBytes + nextOffset - old.nextOffset,
    readMs: nowMs,
    confirmed,
  };
  const effects: AccessAdvice[] = [];
  if (confirmed) {
    const windowBytesMax = event.windowBytesMax / (others + 1);
    const target = windowEnd(stream, { sizeBytes, windowBytesMax });
    if (target > stream.aheadOffset) {
      effects.push({ kind: 'fill', offset: stream.aheadOffset, length: target - stream.aheadOffset });
      stream = { ...stream, aheadOffset: target };
    }
  }
  const streams = state.streams.with(at, stream);
  const completing = state.completing || sequentialBytes(streams) >= COMPLETE_AFTER_BYTES;
  if (completing && !state.completing) effects.push({ kind: 'complete', offset: stream.aheadOffset });
  return { state: { sizeBytes, streams, completing }, effects };
}

/** The stream that this read continues, or -1. */
function nearestStream(streams: readonly Stream[], event: StreamsEvent): number {
  let found = -1;
  let foundDistance = Infinity;
  for (const [index, stream] of streams.entries()) {
    const distance = Math.abs(event.offset - stream.nextOffset);
    // An unconfirmed stream is one read somewhere: only a read right beside it makes a pattern.
    const slack = stream.confirmed ? SLACK_BYTES : Math.min(event.length, FUSE_READ_BYTES_MAX);
    if (distance <= slack && distance < foundDistance) {
      found = index;
      foundDistance = distance;
    }
  }
  return found;
}

function begin(
  state: StreamsState,
  event: StreamsEvent,
  at: { readonly end: number; readonly nowMs: number },
): StreamsState {
  const stream: Stream = {
    nextOffset: at.end,
    aheadOffset: at.end,
    readBytes: at.end - event.offset,
    readMs: at.nowMs,
    confirmed: false,
  };
  if (state.streams.length < STREAMS_MAX) return { ...state, streams: [...state.streams, stream] };
  const victim = leastUseful(state.streams, at.nowMs);
  // All are active: the newcomer is told apart once one of them ends.
  return victim === -1 ? state : { ...state, streams: state.streams.with(victim, stream) };
}

function leastUseful(streams: readonly Stream[], nowMs: number): number {
  let victim = -1;
  for (const [index, stream] of streams.entries()) {
    if (isActive(stream, nowMs)) continue;
    if (victim === -1 || stream.readMs < (streams[victim] as Stream).readMs) victim = index;
  }
  return victim;
}

function isActive(stream: Stream, nowMs: number): boolean {
  return stream.confirmed && nowMs - stream.readMs < STREAM_IDLE_MS;
}

/** Where the window ends now; not beyond what was asked for already unless a whole step is due. */
function windowEnd(
  stream: Stream,
  file: { readonly sizeBytes: number; readonly windowBytesMax: number },
): number {
  const share = Math.max(WINDOW_BYTES_MIN, file.windowBytesMax);
  const windowBytes = Math.min(share, Math.max(WINDOW_BYTES_MIN, WINDOW_GROWTH * stream.readBytes));
  const aligned = Math.ceil((stream.nextOffset + windowBytes) / ALIGN_BYTES) * ALIGN_BYTES;
  if (aligned >= file.sizeBytes) return file.sizeBytes;
  const stepBytes = Math.max(ALIGN_BYTES, windowBytes / WINDOW_STEPS);
  return aligned - stream.aheadOffset >= stepBytes ? aligned : stream.aheadOffset;
}

function sequentialBytes(streams: readonly Stream[]): number {
  return streams.reduce((bytes, stream) => (stream.confirmed ? bytes + stream.readBytes : bytes), 0);
}
