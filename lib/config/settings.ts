/**
 * Settings that can be given as a flag, as an environment variable or in a file, from one definition.
 *
 * Guarantees: precedence is flag, environment, file, default; every refused value is a UsageError that names where
 * it was given, what it was, and how to write it; nothing is ignored.
 */
import { type z } from 'zod';
import { UsageError } from '../base/errors.ts';
import { type Refusal, withoutCredentials } from './values.ts';

export interface Setting<T> {
  readonly schema: z.ZodType<T>;
  /** For people, one line. */
  readonly description: string;
  /** Of the value in help (`<size>`); absent for a switch. */
  readonly placeholder?: string;
  /** Name of the flag where it differs from the key: a list is one flag repeated. */
  readonly flag?: string;
  /** What holds when it is given nowhere. Absent: it must be given. */
  readonly fallback?: { readonly value: T; readonly text?: string };
}

/** By key in kebab-case: `cache-size` is the flag --cache-size, PERIGEE_CACHE_SIZE, and cache-size in a file. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the type of each value is read back by ValuesOf
export type Settings = Readonly<Record<string, Setting<any>>>;

export type ValuesOf<S extends Settings> = { readonly [Key in keyof S]: z.output<S[Key]['schema']> };

/** A value as it was written, and where. */
export interface Given {
  readonly value: unknown;
  readonly from: string;
}

/** One place where settings are given; earlier layers win. */
export type Layer = (key: string, setting: Setting<unknown>) => Given | undefined;

/** Keeps the type of each value. */
export function setting<T>(definition: Setting<T>): Setting<T> {
  return definition;
}

export function flagOf(key: string, { flag }: Setting<unknown>): string {
  return `--${flag ?? key}`;
}

export function environmentVariableOf(key: string): string {
  return `PERIGEE_${key.toUpperCase().replaceAll('-', '_')}`;
}

/** @param flags by flag name without dashes in front. */
export function flagLayer(flags: Readonly<Record<string, unknown>>): Layer {
  return (key, definition) => {
    const value = flags[definition.flag ?? key];
    return value === undefined ? undefined : { value, from: flagOf(key, definition) };
  };
}

/** An empty variable counts as absent, as in unit files. */
export function environmentLayer(env: Readonly<Record<string, string | undefined>>): Layer {
  return (key) => {
    const name = environmentVariableOf(key);
    return env[name] ? { value: env[name], from: name } : undefined;
  };
}

export function resolveSettings<S extends Settings>(settings: S, layers: readonly Layer[]): ValuesOf<S> {
  const values: Record<string, unknown> = {};
  for (const [key, definition] of Object.entries(settings)) {
    values[key] = resolveSetting(key, definition, layers);
  }
  return values as ValuesOf<S>;
}

function resolveSetting(key: string, definition: Setting<unknown>, layers: readonly Layer[]): unknown {
  for (const layer of layers) {
    const given = layer(key, definition);
    if (given === undefined) continue;
    const result = definition.schema.safeParse(given.value);
    if (result.success) return result.data;
    throw refusal(given, result.error);
  }
  if (definition.fallback !== undefined) return definition.fallback.value;
  throw new UsageError(`${flagOf(key, definition)} is missing: ${definition.description}`, {
    hint: `give ${flagOf(key, definition)} <${definition.placeholder ?? 'value'}>, ${environmentVariableOf(key)}, or ${key} in a configuration file`,
  });
}

function refusal({ from, value }: Given, error: z.ZodError): UsageError {
  const issue = error.issues[0];
  const hint = issue?.code === 'custom' ? (issue.params as Refusal | undefined)?.hint : undefined;
  const shown = Array.isArray(value) && value.length === 1 ? (value as unknown[])[0] : value;
  return new UsageError(
    `${from}: ${withoutCredentials(JSON.stringify(shown))} ${issue?.message ?? 'is refused'}`,
    hint === undefined ? {} : { hint },
  );
}
