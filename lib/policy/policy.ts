/**
 * The contract of policies: what a document says, and what it means for one file on one host.
 *
 * A policy has a match and states values of settings. For a file on a host all policies that match it are put in
 * order, most specific first; each setting has the value of the first one that states it, and a default where none
 * does. A decision depends on nothing but the document and the subject.
 */
import { PerigeeError } from '../base/errors.ts';

/**
 * - `document`: the document is refused; the message has every fault with line and column
 * - `unknown-policy`: no policy of the document has that name
 */
export type PolicyErrorCode = 'document' | 'unknown-policy';

export class PolicyError extends PerigeeError<PolicyErrorCode> {
  override readonly layer = 'policy';
}

export const TRIGGERS = ['apply', 'mount', 'open', 'list', 'publish'] as const;
export const PREFETCHES = ['file', 'rest-of-file', 'siblings', 'subtree', 'sequence'] as const;
export const ADMISSIONS = ['never', 'second-miss', 'first-miss'] as const;
export const WRITE_MODES = ['through', 'back'] as const;
export const READS_DURING_WRITE = ['redirect', 'wait', 'previous'] as const;
export const PUBLICATIONS = ['close', 'flush'] as const;
export const PARTITION_ANSWERS = ['fail', 'stale'] as const;

/** By the name that they have in a document, with the section in front. */
export interface Settings {
  readonly 'prefetch.on': readonly (typeof TRIGGERS)[number][];
  /** Five fields of cron, in the time zone of the satellite. */
  readonly 'prefetch.schedule': string | undefined;
  readonly 'prefetch.what': (typeof PREFETCHES)[number];
  readonly 'prefetch.ahead': number;
  readonly 'prefetch.depth': number;
  readonly 'prefetch.concurrency': number;
  /** Bytes per second; undefined: the satellite's own budget alone. */
  readonly 'prefetch.bandwidth': number | undefined;
  readonly 'prefetch.priority': number;
  readonly 'cache.admit': (typeof ADMISSIONS)[number];
  readonly 'cache.pin': boolean;
  /** Milliseconds since the last use after which a blob gives way before all others; undefined: never. */
  readonly 'cache.ttl': number | undefined;
  /** Blobs of a lower rank give way first. */
  readonly 'cache.rank': number;
  /** Bytes up to which a file is fetched whole by an open; undefined: as the satellite was started. */
  readonly 'cache.wholeOnOpen': number | undefined;
  readonly 'write.mode': (typeof WRITE_MODES)[number];
  readonly 'write.readDuringWrite': (typeof READS_DURING_WRITE)[number];
  readonly 'write.publish': (typeof PUBLICATIONS)[number];
  readonly 'consistency.immutable': boolean;
  readonly 'consistency.onPartition': (typeof PARTITION_ANSWERS)[number];
}

export type SettingName = keyof Settings;

/** What holds where no policy says anything. */
export const DEFAULT_SETTINGS: Settings = {
  'prefetch.on': [],
  'prefetch.schedule': undefined,
  'prefetch.what': 'file',
  'prefetch.ahead': 8,
  'prefetch.depth': 1,
  'prefetch.concurrency': 16,
  'prefetch.bandwidth': undefined,
  'prefetch.priority': 0,
  'cache.admit': 'first-miss',
  'cache.pin': false,
  'cache.ttl': undefined,
  'cache.rank': 0,
  'cache.wholeOnOpen': undefined,
  'write.mode': 'through',
  'write.readDuringWrite': 'previous',
  'write.publish': 'close',
  'consistency.immutable': false,
  'consistency.onPartition': 'fail',
};

export const SETTING_NAMES = Object.keys(DEFAULT_SETTINGS) as readonly SettingName[];

export interface PolicyMatch {
  /** Undefined: every export. */
  readonly export: string | undefined;
  /** The characters that the path begins with. */
  readonly prefix: string;
  /** What the rest of the path, behind the prefix, must match. */
  readonly glob: string | undefined;
  /** Both inclusive. */
  readonly size: { readonly minBytes: number; readonly maxBytes: number } | undefined;
  /** All of them; every satellite has a label `host`, its host name, unless it was given another. */
  readonly labels: Readonly<Record<string, string>> | undefined;
}

export interface Policy {
  readonly name: string;
  readonly match: PolicyMatch;
  readonly states: Partial<Settings>;
}

/** A file or directory as one host sees it. */
export interface Subject {
  readonly exportName: string;
  /** Relative to the root of the export, without a slash in front; of a directory with one behind it. */
  readonly path: string;
  /** Undefined where there is none, as of a directory. */
  readonly sizeBytes: number | undefined;
  readonly host: PolicyHost;
}

export interface PolicyHost {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Why a setting has its value:
 * - `default`: no policy that matches states it
 * - `only-one`: one policy that matches states it
 * - otherwise several do, and the first is before the second for its longer prefix, for its glob, for more conditions
 *   (export, size, hosts), for its higher priority, or by its name alone
 */
export type Reason = 'default' | 'only-one' | Precedence;
export type Precedence =
  'longer-prefix' | 'has-glob' | 'more-conditions' | 'higher-priority' | 'earlier-name';

export interface Ruling<Value> {
  readonly value: Value;
  /** The policy that it comes from. */
  readonly policy: string | undefined;
  readonly reason: Reason;
}

export interface Decision {
  readonly settings: Settings;
  readonly rulings: { readonly [Name in SettingName]: Ruling<Settings[Name]> };
  /** Policies from which at least one value comes, most specific first. */
  readonly deciding: readonly string[];
}

/**
 * What became of a policy:
 * - `decides`: it matches, and at least one value is its own
 * - `overruled`: it matches, and more specific ones state all that it states
 * - otherwise it does not match: for another export, prefix, glob, size or host, or because it asks for a size and
 *   the subject has none
 */
export type Outcome =
  | 'decides'
  | 'overruled'
  | 'other-export'
  | 'other-prefix'
  | 'other-glob'
  | 'other-size'
  | 'no-size'
  | 'other-host';

export interface Explanation {
  readonly decision: Decision;
  /** All policies: those that match first, most specific first, then the others in the order of the document. */
  readonly policies: readonly { readonly name: string; readonly outcome: Outcome }[];
}

/** A file or directory of one export, on one host. */
export type OwnSubject = Pick<Subject, 'path' | 'sizeBytes'>;

/** Decides for one export on one host, by what holds now. */
export interface OwnPolicies {
  decide(subject: OwnSubject): Decision;
}

export interface PolicyEngine {
  decide(subject: Subject): Decision;
  explain(subject: Subject): Explanation;
}
