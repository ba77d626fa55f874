/** What is right by its shape, but hardly meant: each warning says what will happen and how to have it otherwise. */
import { compileGlob } from './glob.ts';
import { DEFAULT_SETTINGS, type Policy, type PolicyMatch, type SettingName } from './policy.ts';
import { everFires } from './policy-schema.ts';
import { precedence } from './precedence.ts';

export interface Warning {
  /** Its place in the document. */
  readonly policy: number;
  /** Where in the policy, as it is written. */
  readonly key: readonly string[];
  readonly message: string;
  readonly hint: string;
}

/** Settings that are kept and distributed, but of which this release only acts upon the default. */
const SETTINGS_TO_COME = ['write.readDuringWrite', 'write.publish'] as const;

export function reviewPolicies(policies: readonly Policy[]): Warning[] {
  return [...policies.flatMap(reviewPolicy), ...contradictions(policies)];
}

function reviewPolicy({ match, states }: Policy, policy: number): Warning[] {
  const warnings: Warning[] = [];
  const warn = (key: readonly string[], message: string, hint: string): void => {
    warnings.push({ policy, key, message, hint });
  };
  const stated = Object.keys(states) as SettingName[];
  if (stated.length === 0)
    warn([], 'states nothing and has no effect', 'add prefetch, cache, write or consistency');
  for (const name of SETTINGS_TO_COME) {
    const value = states[name];
    if (value !== undefined && value !== DEFAULT_SETTINGS[name]) {
      warn(
        name.split('.'),
        'this release keeps it and does not act upon it',
        'nothing else is wrong with it',
      );
    }
  }
  if (/[*?{}[\]]/.test(match.prefix)) {
    warn(['match', 'prefix'], 'is literal, also its * ? { } [ ]', 'patterns go into glob');
  }
  const futile = match.glob === undefined ? undefined : compileGlob(match.glob).futile;
  if (futile !== undefined) warn(['match', 'glob'], `can match nothing: it ${futile}`, 'change the glob');
  const schedule = states['prefetch.schedule'];
  if (schedule !== undefined && !everFires(schedule)) {
    warn(['prefetch', 'schedule'], 'never comes: there is no such day', 'change the day or the month');
  }
  const what = states['prefetch.what'];
  if (states['prefetch.depth'] !== undefined && what !== undefined && what !== 'subtree') {
    warn(['prefetch', 'depth'], `has no effect with what: ${what}`, 'it is for what: subtree');
  }
  if (states['prefetch.ahead'] !== undefined && what !== undefined && !/^(siblings|sequence)$/.test(what)) {
    warn(['prefetch', 'ahead'], `has no effect with what: ${what}`, 'it is for siblings and sequence');
  }
  if (states['cache.pin'] === true && states['cache.admit'] === 'never') {
    warn(['cache', 'pin'], 'has no effect: with admit: never nothing is there to pin', 'choose one of them');
  }
  return warnings;
}

/** Policies with one match and one priority that state different values: the name decides, which is seldom meant. */
function contradictions(policies: readonly Policy[]): Warning[] {
  const groups = Map.groupBy(policies.keys(), (at) => matchKey(policies[at]!));
  const warnings: Warning[] = [];
  for (const places of groups.values()) {
    const [first, ...others] = places.sort((a, b) => precedence(policies[a]!, policies[b]!).order);
    const known = new Map(
      Object.entries(policies[first!]!.states).map(([name, value]) => [name, { value, by: first! }]),
    );
    for (const policy of others) {
      for (const [name, value] of Object.entries(policies[policy]!.states)) {
        const before = known.get(name);
        if (before === undefined) known.set(name, { value, by: policy });
        else if (JSON.stringify(before.value) !== JSON.stringify(value)) {
          const winner = policies[before.by]!.name;
          warnings.push({
            policy,
            key: name.split('.'),
            message: `contradicts the policy ${winner}, which has the same match and priority and wins by its name`,
            hint: 'make one of the matches more specific, or give one a higher prefetch.priority',
          });
        }
      }
    }
  }
  return warnings;
}

function matchKey({ match, states }: Policy): string {
  const { labels, ...rest } = match satisfies PolicyMatch;
  const sorted = labels && Object.entries(labels).sort();
  return JSON.stringify([rest, sorted, states['prefetch.priority'] ?? 0]);
}
