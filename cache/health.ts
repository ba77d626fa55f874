/**
 * Is the disk to be trusted? A pure state machine; `device-health.ts` drives it.
 *
 * States:
 * - `normal`
 * - `unstable`: something failed lately; everything still goes through NVMe. Calm for a while: normal.
 *   More failures: down
 * - `down`: nothing is written, and after device errors nothing is read either; reads go to the next tier.
 *   Probed with growing pauses; a probe that succeeds leads to unstable, never straight to normal
 */
import type { CacheHealth } from './block-cache.ts';

export type HealthCause = 'no-space' | 'device';

export type HealthState =
  | { readonly kind: 'normal' }
  | { readonly kind: 'unstable'; readonly failures: number; readonly failedAtMs: number }
  | {
      readonly kind: 'down';
      readonly cause: HealthCause;
      readonly probeAtMs: number;
      readonly pauseMs: number;
    };

export type HealthEvent =
  | { readonly kind: 'failed'; readonly cause: HealthCause }
  | { readonly kind: 'probed'; readonly ok: boolean }
  | { readonly kind: 'tick' };

export const FAILURES_MAX = 3;
export const CALM_MS = 30_000;
export const PROBE_PAUSE_MS = 1_000;
export const PROBE_PAUSE_MAX_MS = 60_000;

export const HEALTHY: HealthState = { kind: 'normal' };

export function nextHealth(state: HealthState, event: HealthEvent, nowMs: number): HealthState {
  switch (event.kind) {
    case 'failed': {
      if (state.kind === 'down') {
        return event.cause === 'device' ? { ...state, cause: 'device' } : state;
      }
      const failures = state.kind === 'unstable' ? state.failures + 1 : 1;
      if (failures < FAILURES_MAX) return { kind: 'unstable', failures, failedAtMs: nowMs };
      return { kind: 'down', cause: event.cause, probeAtMs: nowMs + PROBE_PAUSE_MS, pauseMs: PROBE_PAUSE_MS };
    }
    case 'probed': {
      if (state.kind !== 'down') return state;
      if (event.ok) return { kind: 'unstable', failures: FAILURES_MAX - 1, failedAtMs: nowMs };
      const pauseMs = Math.min(state.pauseMs * 2, PROBE_PAUSE_MAX_MS);
      return { ...state, pauseMs, probeAtMs: nowMs + pauseMs };
    }
    case 'tick':
      if (state.kind === 'unstable' && nowMs - state.failedAtMs >= CALM_MS) return HEALTHY;
      return state;
  }
}

export function healthName(state: HealthState): CacheHealth {
  return state.kind;
}

/** May blobs be written? */
export function mayFill(state: HealthState): boolean {
  return state.kind !== 'down';
}

/** May blobs be read? A full file system reads well. */
export function mayServe(state: HealthState): boolean {
  return state.kind !== 'down' || state.cause === 'no-space';
}

/** Is it time to try the disk? */
export function probeDue(state: HealthState, nowMs: number): boolean {
  return state.kind === 'down' && nowMs >= state.probeAtMs;
}
