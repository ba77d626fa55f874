/**
 * Deliberate faults of the protocol, one a mutant: what the simulator must find, each of them, or it is too weak.
 *
 * A mutant is a change of the source as it is loaded (`mutate.ts`), so nothing in the product knows of it. The text to be
 * replaced must stand in its file exactly once, but for white space: whoever rewrites that place decides anew how to break it.
 */

export interface Mutant {
  readonly name: string;
  /** What would be forgotten. */
  readonly fault: string;
  /** Within few seeds, so that every run of the tests looks for it. */
  readonly foundSoon?: true;
  /** Only worlds in which directories are renamed show it. */
  readonly needsMoves?: true;
  readonly changes: readonly { readonly file: string; readonly from: string; readonly to: string }[];
}

const CHANGES = 'lib/lease/lease-changes.ts';
const SESSION = 'lib/lease/lease-session.ts';
const CLIENT = 'lib/lease/lease-client.ts';
const CACHE = 'lib/namespace/name-cache.ts';
const HELD = 'lib/namespace/held-names.ts';
const NAMESPACE = 'lib/namespace/leased-namespace.ts';
const SERVICE = 'lib/origin/services/origin-service.ts';
const LEASES = 'lib/origin/leases/export-leases.ts';

export const mutants: readonly Mutant[] = [
  {
    name: 'acknowledge-early',
    foundSoon: true,
    fault: 'a withdrawal is acknowledged before the kernel has dropped the names',
    changes: [
      {
        file: HELD,
        from: 'await this.#tell(dropped); return released;',
        to: 'void this.#tell(dropped); return released;',
      },
    ],
  },
  {
    name: 'perform-early',
    foundSoon: true,
    fault: 'a change is performed before its holders have acknowledged',
    changes: [{ file: CHANGES, from: "'withdrawing' || change.awaited.size > 0", to: "'withdrawing'" }],
  },
  {
    name: 'one-phase',
    foundSoon: true,
    fault: 'holders hear of a change only after it has been performed',
    changes: [
      {
        file: CHANGES,
        from: 'if (session.id === change.by) continue;',
        to: 'if (session.id !== change.by) continue;',
      },
    ],
  },
  {
    name: 'count-from-receipt',
    fault: 'the satellite counts the term from when the answer came',
    changes: [{ file: CLIENT, from: 'sentMs + termMs * (1 -', to: 'this.#nowMs + termMs * (1 -' }],
  },
  {
    name: 'no-grace',
    foundSoon: true,
    fault: 'an origin that was restarted waits for nobody',
    changes: [
      { file: CHANGES, from: 'if (this.#host.isGrace()) {', to: 'if (false) {' },
      { file: CHANGES, from: "invariant(!this.#host.isGrace(), 'nothing changes during grace');", to: '' },
    ],
  },
  {
    name: 'keep-absences',
    fault: 'a withdrawal does not concern names that are absent',
    changes: [
      {
        file: CACHE,
        from: 'if (known !== undefined && sequence > known) this.#withdraw(',
        to: "if (known !== undefined && sequence > known && facts.own(name)?.state !== 'absent') this.#withdraw(",
      },
    ],
  },
  {
    name: 'no-epoch-at-loss',
    foundSoon: true,
    fault: 'the kernel keeps its names when the session is lost',
    changes: [
      {
        file: HELD,
        from: 'if (everything) return this.#after(this.#listener.dropAll());',
        to: 'if (everything) return this.#told;',
      },
    ],
  },
  {
    name: 'keep-marked-answer',
    fault: 'an answer is kept although a withdrawal has overtaken it',
    changes: [
      {
        file: CACHE,
        from: 'if (grant === undefined || question.markedAt > grant.sequence) return false;',
        to: 'if (grant === undefined) return false;',
      },
    ],
  },
  {
    name: 'grant-after-lookup',
    foundSoon: true,
    fault: 'the lease is granted after the name was looked up',
    changes: [
      {
        file: SERVICE,
        from: 'const grant = await leases.grantName(request.session, { directory, name: request.name }); const found = await tree.lookup(directory, request.name);',
        to: 'const found = await tree.lookup(directory, request.name); const grant = await leases.grantName(request.session, { directory, name: request.name });',
      },
    ],
  },
  {
    name: 'look-under-change',
    fault: 'a name that is being changed is looked up like any other',
    changes: [
      {
        file: LEASES,
        from: 'isFree ? this.#grant(session, at.directory) : undefined',
        to: 'this.#grant(session, at.directory)',
      },
      { file: LEASES, from: 'if (change === undefined) return grant;', to: 'return grant;' },
    ],
  },
  {
    name: 'heartbeat-renews-debtor',
    fault: 'a heartbeat renews the whole term of a session that owes an acknowledgement',
    changes: [
      {
        file: SESSION,
        from: 'oldest === undefined ? termMs : Math.max(0, termMs - (nowMs - oldest.sentMs))',
        to: 'oldest === undefined ? termMs : termMs',
      },
    ],
  },
  {
    name: 'ignore-clock-rate',
    fault: 'both sides count as if their clocks ran at one rate',
    changes: [
      { file: CLIENT, from: 'sentMs + termMs * (1 - this.#clockRateError)', to: 'sentMs + termMs' },
      { file: SESSION, from: 'nowMs + grantedMs * (1 + clockRateError)', to: 'nowMs + grantedMs' },
    ],
  },
  {
    name: 'keep-moved-directory',
    needsMoves: true,
    fault: 'what is known at and below a directory that gets another place is kept',
    changes: [
      {
        file: CACHE,
        from: 'const everything = message.moved.length > 0 && this.#dropBelow(message.moved, sequence);',
        to: 'const everything = false;',
      },
    ],
  },
  {
    name: 'use-after-term',
    fault: 'names are used for a term longer than they may be',
    changes: [
      {
        file: NAMESPACE,
        from: 'this.#options.term.validUntilMs - this.#options.clock.nowMs()',
        to: 'this.#options.term.validUntilMs + 4_000 - this.#options.clock.nowMs()',
      },
    ],
  },
  {
    name: 'confirm-early',
    fault: 'a welcome is acknowledged before what the session before it held is dropped',
    changes: [
      {
        file: CLIENT,
        from: "if (earlier !== undefined) this.#dropOwed = this.#drop('new-session', reclaimed);",
        to: "if (earlier !== undefined) { this.#acknowledge(0, []); this.#drop('new-session', reclaimed); }",
      },
    ],
  },
  {
    name: 'keep-withdrawn-entry',
    fault: 'a page is kept with the names that are being changed',
    changes: [
      {
        file: CACHE,
        from: 'if (withdrawn.has(name) || own.has(name)) continue;',
        to: 'if (own.has(name)) continue;',
      },
    ],
  },
];

/** The text with any white space between its words. @throws if it does not stand there once */
export function placeOf(
  source: string,
  { file, from }: { readonly file: string; readonly from: string },
): RegExp {
  const words = from
    .trim()
    .split(/\s+/)
    .map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const found = source.match(new RegExp(words.join('\\s+'), 'g'))?.length ?? 0;
  if (found !== 1) throw new Error(`${file} has ${found} places that read: ${from}`);
  return new RegExp(words.join('\\s+'));
}
