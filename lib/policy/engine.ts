/**
 * Decides by a compiled document. Pure: the same document and subject give the same decision, on every host.
 *
 * The order of policies does not depend on the subject, so it is made once, and a policy is its place in it. Those
 * that can match by their literal beginning (the prefix, and what is literal at the front of the glob) are found in
 * one walk along the path. Paths are many and sets of matching policies are few, so what a set means is kept, up to a
 * bound.
 */
import { type Glob, compileGlob } from './glob.ts';
import {
  type Decision,
  DEFAULT_SETTINGS,
  type Explanation,
  type Outcome,
  type Policy,
  type PolicyEngine,
  type PolicyHost,
  type Ruling,
  type Reason,
  SETTING_NAMES,
  type Subject,
} from './policy.ts';
import { precedence } from './precedence.ts';
import { PrefixTree } from './prefix-tree.ts';

/** Meanings of sets that are kept; about 3 kB each. */
const DECISIONS_KEPT_MAX = 2_048;

interface CompiledPolicy {
  readonly policy: Policy;
  readonly glob: Glob | undefined;
  /** Among all, most specific first. */
  readonly place: number;
}

/** @param policies as a document that was read has them: names are unique, globs compile */
export function compilePolicies(policies: readonly Policy[]): PolicyEngine {
  return new CompiledEngine(policies);
}

class CompiledEngine implements PolicyEngine {
  /** In the order of the document. */
  readonly #written: readonly CompiledPolicy[];
  readonly #ordered: readonly Policy[];
  readonly #byBeginning = new PrefixTree<CompiledPolicy>();
  readonly #kept = new Map<string, Decision>();

  constructor(policies: readonly Policy[]) {
    this.#ordered = [...policies].sort((a, b) => precedence(a, b).order);
    const places = new Map(this.#ordered.map((policy, place) => [policy, place]));
    this.#written = policies.map((policy) => ({
      policy,
      glob: policy.match.glob === undefined ? undefined : compileGlob(policy.match.glob),
      place: places.get(policy)!,
    }));
    for (const compiled of this.#written) {
      this.#byBeginning.add(compiled.policy.match.prefix + (compiled.glob?.literalHead ?? ''), compiled);
    }
  }

  decide(subject: Subject): Decision {
    const places: number[] = [];
    this.#byBeginning.forEachPrefixOf(subject.path, (compiled) => {
      if (mismatch(compiled, subject) === undefined) places.push(compiled.place);
    });
    if (places.length > 1) places.sort((a, b) => a - b);
    return this.#meaning(places);
  }

  explain(subject: Subject): Explanation {
    const decision = this.decide(subject);
    const deciding = new Set(decision.deciding);
    const judged = this.#written.map((compiled) => {
      const { name } = compiled.policy;
      const outcome: Outcome = mismatch(compiled, subject) ?? (deciding.has(name) ? 'decides' : 'overruled');
      return { name, outcome, place: compiled.place };
    });
    const matches = judged.filter(({ outcome }) => isMatch(outcome)).sort((a, b) => a.place - b.place);
    const others = judged.filter(({ outcome }) => !isMatch(outcome));
    return { decision, policies: [...matches, ...others].map(({ name, outcome }) => ({ name, outcome })) };
  }

  #meaning(places: readonly number[]): Decision {
    const key = String.fromCharCode(...places);
    let decision = this.#kept.get(key);
    if (decision === undefined) {
      if (this.#kept.size === DECISIONS_KEPT_MAX) this.#kept.clear();
      decision = merge(places.map((place) => this.#ordered[place]!));
      this.#kept.set(key, decision);
    }
    return decision;
  }
}

/** @param policies that match, most specific first */
function merge(policies: readonly Policy[]): Decision {
  const rulings = SETTING_NAMES.map((name): [string, Ruling<unknown>] => {
    const [first, second] = policies.filter(({ states }) => states[name] !== undefined);
    if (first === undefined)
      return [name, { value: DEFAULT_SETTINGS[name], policy: undefined, reason: 'default' }];
    const reason: Reason = second === undefined ? 'only-one' : precedence(first, second).reason;
    return [name, { value: first.states[name], policy: first.name, reason }];
  });
  const sources = new Set(rulings.map(([, { policy }]) => policy));
  return {
    settings: Object.fromEntries(
      rulings.map(([name, { value }]) => [name, value]),
    ) as unknown as Decision['settings'],
    rulings: Object.fromEntries(rulings) as unknown as Decision['rulings'],
    deciding: policies.map(({ name }) => name).filter((name) => sources.has(name)),
  };
}

/** Whether a policy can be about any file of the export on the host. */
export function isFor(
  { match }: Policy,
  { exportName, host }: { readonly exportName: string; readonly host: PolicyHost },
): boolean {
  if (match.export !== undefined && match.export !== exportName) return false;
  return match.labels === undefined || hasLabels(host, match.labels);
}

/** Why the policy is not about the subject; undefined: it is. */
function mismatch({ policy: { match }, glob }: CompiledPolicy, subject: Subject): Outcome | undefined {
  const { exportName, path, sizeBytes, host } = subject;
  if (match.export !== undefined && match.export !== exportName) return 'other-export';
  if (!path.startsWith(match.prefix)) return 'other-prefix';
  if (glob !== undefined && !glob.matches(restOf(path, match.prefix))) return 'other-glob';
  if (match.size !== undefined) {
    if (sizeBytes === undefined) return 'no-size';
    if (sizeBytes < match.size.minBytes || sizeBytes > match.size.maxBytes) return 'other-size';
  }
  if (match.labels !== undefined && !hasLabels(host, match.labels)) return 'other-host';
  return undefined;
}

/** What a glob is about. A directory is written with a slash at its end, which is no part of its name. */
function restOf(path: string, prefix: string): string {
  return path.slice(prefix.length, path.endsWith('/') ? -1 : undefined);
}

function hasLabels(host: PolicyHost, labels: Readonly<Record<string, string>>): boolean {
  for (const [name, value] of Object.entries(labels)) {
    const own = Object.hasOwn(host.labels, name)
      ? host.labels[name]
      : name === 'host'
        ? host.name
        : undefined;
    if (own !== value) return false;
  }
  return true;
}

function isMatch(outcome: Outcome): boolean {
  return outcome === 'decides' || outcome === 'overruled';
}
