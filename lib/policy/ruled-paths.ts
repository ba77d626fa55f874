/**
 * Paths for which a setting has one value now, by the policies of a satellite, whatever the size of what is there; and the
 * directories on the literal ways to them, because whoever may use what is below must be able to get there.
 */
import type { Policy, SettingName, Settings } from './policy.ts';
import type { PolicyHolder } from './policy-holder.ts';

export class RuledPaths<Name extends SettingName> {
  readonly #holder: PolicyHolder;
  readonly #name: Name;
  readonly #value: Settings[Name];
  #stating: readonly Policy[] = [];
  #wanting: readonly Policy[] = [];
  #ways: ReadonlySet<string> = new Set();

  constructor(holder: PolicyHolder, setting: { readonly name: Name; readonly value: Settings[Name] }) {
    this.#holder = holder;
    this.#name = setting.name;
    this.#value = setting.value;
    this.refresh();
  }

  get isEmpty(): boolean {
    return this.#wanting.length === 0;
  }

  /** Another set of policies holds. @returns whether that may mean other paths */
  refresh(): boolean {
    const before = JSON.stringify(this.#stating);
    this.#stating = this.#holder.ownPolicies().filter(({ states }) => states[this.#name] !== undefined);
    this.#wanting = this.#stating.filter(({ states }) => states[this.#name] === this.#value);
    this.#ways = new Set(this.#wanting.flatMap(({ match }) => waysTo(match.prefix)));
    return JSON.stringify(this.#stating) !== before;
  }

  /** Of what a path stands for. */
  has(path: string): boolean {
    if (this.isEmpty) return false;
    if (this.#ways.has(path)) return true;
    return this.#holder.decide({ path, sizeBytes: undefined }).settings[this.#name] === this.#value;
  }

  /** Of all that is, or is not, in a directory: a whole prefix says so, and nothing says otherwise there. */
  hasBelow(path: string): boolean {
    if (this.isEmpty) return false;
    const below = path === '' ? '' : `${path}/`;
    const whole = this.#wanting.some(
      ({ match: { prefix, glob, size } }) =>
        glob === undefined && size === undefined && below.startsWith(prefix),
    );
    return (
      whole &&
      this.#stating.every(
        ({ states, match: { prefix } }) =>
          states[this.#name] === this.#value || !(below.startsWith(prefix) || prefix.startsWith(below)),
      )
    );
  }
}

/** The directories that lead to the prefix, the root among them. */
function waysTo(prefix: string): string[] {
  const names = prefix.split('/').slice(0, -1);
  return ['', ...names.map((_, at) => names.slice(0, at + 1).join('/'))];
}
