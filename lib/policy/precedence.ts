/**
 * Which of two policies is the more specific one: the longer prefix, then one with a glob, then more of export, size
 * and hosts, then the higher priority, then the earlier name. A total order, because names are unique.
 */
import { DEFAULT_SETTINGS, type Policy, type Precedence } from './policy.ts';

/** @returns order less than 0: the first is before the second; and what told them apart */
export function precedence(a: Policy, b: Policy): { readonly order: number; readonly reason: Precedence } {
  const steps: readonly (readonly [Precedence, number])[] = [
    ['longer-prefix', b.match.prefix.length - a.match.prefix.length],
    ['has-glob', Number(b.match.glob !== undefined) - Number(a.match.glob !== undefined)],
    ['more-conditions', conditionsOf(b) - conditionsOf(a)],
    ['higher-priority', priorityOf(b) - priorityOf(a)],
  ];
  for (const [reason, order] of steps) if (order !== 0) return { order, reason };
  return { order: a.name < b.name ? -1 : Number(a.name > b.name), reason: 'earlier-name' };
}

function conditionsOf({ match }: Policy): number {
  return [match.export, match.size, match.labels].filter((condition) => condition !== undefined).length;
}

function priorityOf({ states }: Policy): number {
  return states['prefetch.priority'] ?? DEFAULT_SETTINGS['prefetch.priority'];
}
