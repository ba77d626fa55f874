/**
 * Reads a policy document, YAML or JSON, and changes its text.
 *
 * Guarantees: a document that is not wholly right is refused with all that is wrong in it, each with line, column,
 * what is expected and the word that was probably meant; nothing is ignored. Text, aliases, policies and the list of
 * faults are bounded.
 */
import { isSeq, parseDocument, stringify } from 'yaml';
import { z } from 'zod';
import { nearMiss } from '../config/near-miss.ts';
import type { Refusal } from '../config/values.ts';
import { reviewPolicies } from './document-review.ts';
import {
  ALIASES_MAX,
  DocumentSource,
  type Finding,
  findingText,
  type KeyPath,
  SHAPE_HINT,
} from './document-source.ts';
import { type Policy, PolicyError, type SettingName } from './policy.ts';
import { API_VERSION, documentSchema, type WrittenPolicy } from './policy-schema.ts';

/** Faults, and warnings, that are told; the rest is counted. */
const FINDINGS_MAX = 50;
const SHOWN_CHARACTERS_MAX = 80;

export interface PolicyDocument {
  readonly policies: readonly Policy[];
  /** The document itself, its aliases written out. */
  readonly written: WrittenDocument;
  readonly warnings: readonly Finding[];
}

export type ReadDocument =
  | { readonly kind: 'right'; readonly document: PolicyDocument }
  | { readonly kind: 'wrong'; readonly faults: readonly Finding[] };

/** What is known of a document of the right shape before its values are read. */
export interface WrittenDocument {
  readonly apiVersion: string;
  readonly policies: readonly { readonly match: { readonly export?: string } }[];
}

export function readPolicyDocument(text: string): ReadDocument {
  const source = new DocumentSource(text);
  const value = source.value();
  if (source.faults.length > 0) return wrong(source.faults);
  const read = documentSchema.safeParse(value);
  if (!read.success) {
    for (const issue of read.error.issues) source.faults.push(...faultsOf(issue, { value, source }));
    return wrong(source.faults);
  }
  const written = read.data.policies;
  source.faults.push(...repeatedNames(written, source));
  if (source.faults.length > 0) return wrong(source.faults);
  const policies = written.map(policyOf);
  const document = { policies, written: value as WrittenDocument };
  const warnings = reviewPolicies(policies).map(({ policy, key, message, hint }) =>
    source.finding(['policies', policy, ...key], message, hint),
  );
  return { kind: 'right', document: { ...document, warnings: bounded(inOrder(warnings)) } };
}

/** @throws PolicyError with all faults in its message */
export function parsePolicyDocument(text: string): PolicyDocument {
  const read = readPolicyDocument(text);
  if (read.kind === 'right') return read.document;
  throw new PolicyError('document', `the document is refused\n${read.faults.map(findingText).join('\n')}`, {
    hint: 'perigee policy plan -f FILE shows the same without applying it',
  });
}

/** The part of a document that is about one export, as it travels to satellites. */
export function documentForExport({ apiVersion, policies }: WrittenDocument, exportName: string): string {
  const about = policies.filter(({ match }) => match.export === undefined || match.export === exportName);
  return JSON.stringify({ apiVersion, policies: about });
}

/** What `documentForExport` wrote, in a tenth of the time that a reader of YAML takes. @throws PolicyError document */
export function policiesOfJson(json: string): readonly Policy[] {
  try {
    return documentSchema.parse(JSON.parse(json)).policies.map(policyOf);
  } catch (error) {
    throw new PolicyError(
      'document',
      'the policies of the origin are not in the shape that this release knows',
      {
        cause: error,
        hint: 'run the same release on the origin and on its satellites',
      },
    );
  }
}

/** The text of one policy. @throws PolicyError unknown-policy */
export function policyText(text: string, name: string): string {
  const document = parseDocument(text);
  const { policies } = document.toJS({ maxAliasCount: ALIASES_MAX }) as {
    readonly policies: readonly unknown[];
  };
  return stringify(policies[placeOf(document, name)]);
}

/** The document without one policy; comments of the others stay. @throws PolicyError unknown-policy, document */
export function withoutPolicy(text: string, name: string): string {
  const document = parseDocument(text);
  document.deleteIn(['policies', placeOf(document, name)]);
  try {
    return document.toString();
  } catch (error) {
    throw new PolicyError('document', `${name} cannot be taken out of the document`, {
      cause: error,
      hint: 'other policies refer to parts of it; edit the document and apply it',
    });
  }
}

export const EMPTY_DOCUMENT = `apiVersion: ${API_VERSION}\npolicies: []\n`;

function placeOf(document: ReturnType<typeof parseDocument>, name: string): number {
  const policies: unknown = document.get('policies');
  const names = isSeq(policies)
    ? policies.items.map((_item, at) => String(document.getIn(['policies', at, 'name'])))
    : [];
  const place = names.indexOf(name);
  if (place >= 0) return place;
  const meant = nearMiss(name, names);
  throw new PolicyError('unknown-policy', `there is no policy ${JSON.stringify(name)}`, {
    hint: meant === undefined ? 'perigee policy list shows their names' : `did you mean ${meant}?`,
  });
}

function faultsOf(
  issue: z.core.$ZodIssue,
  { value, source }: { readonly value: unknown; readonly source: DocumentSource },
): Finding[] {
  const { path } = issue;
  const given = valueAt(value, path);
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(path);
      return issue.keys.map((key) => {
        const meant = nearMiss(key, known);
        const hint = meant === undefined ? `known are ${known.join(', ')}` : `did you mean ${meant}?`;
        return source.finding([...path, key], 'unknown key', hint, 'key');
      });
    }
    case 'custom': {
      const hint = (issue.params as Refusal | undefined)?.hint;
      if (given === undefined) return [source.finding(path, 'is missing', hint)];
      return [source.finding(path, `${shown(given)} ${issue.message}`, hint)];
    }
    case 'too_big':
      return [source.finding(path, `has more than ${issue.maximum} entries`, undefined)];
    case 'too_small':
      return [source.finding(path, 'is an empty list', 'leave it out')];
    default: {
      const expected = issue.code === 'invalid_type' && issue.expected === 'array' ? 'a list' : 'a map';
      const hint = path.length < 2 ? SHAPE_HINT : `it may have ${keysAt(path).join(', ')}`;
      const what = given === undefined ? 'is missing' : `${shown(given)} is not ${expected}`;
      return [source.finding(path, what, expected === 'a map' || path.length < 2 ? hint : undefined)];
    }
  }
}

/** What the schema allows in the map at a path. */
function keysAt(path: KeyPath): string[] {
  let schema: unknown = documentSchema;
  for (const key of path) {
    if (schema instanceof z.ZodOptional) schema = schema.unwrap();
    if (schema instanceof z.ZodObject) schema = (schema.shape as Record<PropertyKey, unknown>)[key];
    else if (schema instanceof z.ZodArray) schema = schema.element;
  }
  if (schema instanceof z.ZodOptional) schema = schema.unwrap();
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

function repeatedNames(policies: readonly WrittenPolicy[], source: DocumentSource): Finding[] {
  const first = new Map<string, number>();
  return policies.flatMap(({ name }, at) => {
    const before = first.get(name);
    first.set(name, before ?? at);
    if (before === undefined) return [];
    const { line } = source.finding(['policies', before, 'name'], '', undefined);
    const message = `the name ${name} is taken by the policy of line ${line}`;
    return [source.finding(['policies', at, 'name'], message, 'give every policy a name of its own')];
  });
}

function policyOf({ name, match, ...sections }: WrittenPolicy): Policy {
  const states = Object.entries(sections).flatMap(([section, stated]) =>
    Object.entries(stated ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [`${section}.${key}` as SettingName, value] as const),
  );
  const { size } = match;
  return {
    name,
    match: {
      export: match.export,
      prefix: match.prefix ?? '',
      glob: match.glob,
      size: size && { minBytes: size.min ?? 0, maxBytes: size.max ?? Number.MAX_SAFE_INTEGER },
      labels: match.hosts?.labels,
    },
    states: Object.fromEntries(states),
  };
}

function valueAt(value: unknown, path: KeyPath): unknown {
  return path.reduce<unknown>(
    (at, key) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, key)
        ? (at as Record<PropertyKey, unknown>)[key]
        : undefined,
    value,
  );
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? '';
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}…` : text;
}

function inOrder(findings: readonly Finding[]): readonly Finding[] {
  return [...findings].sort((a, b) => a.line - b.line || a.column - b.column);
}

function bounded(findings: readonly Finding[]): readonly Finding[] {
  if (findings.length <= FINDINGS_MAX) return findings;
  const { line, column } = findings[FINDINGS_MAX]!;
  const message = `and ${findings.length - FINDINGS_MAX} more from here on`;
  return [...findings.slice(0, FINDINGS_MAX), { line, column, message, hint: undefined }];
}

function wrong(faults: readonly Finding[]): ReadDocument {
  return { kind: 'wrong', faults: bounded(inOrder(faults)) };
}
