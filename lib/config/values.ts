/**
 * Schemas of single values as people write them: in a flag, an environment variable or a file. Each refusal says
 * what is wrong with the value in words that follow it (`"5 bananas" is not a size`) and how to write it.
 */
import bytes from 'bytes-iec';
import ms, { type StringValue } from 'ms';
import { z } from 'zod';
import { nearMiss } from './near-miss.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** What a refusal carries for people, read by settings.ts. */
export interface Refusal {
  readonly hint: string;
}

const PORT_MAX = 65_535;
const HOST_CHARACTERS_MAX = 253;

/** A schema from a function that returns the value or refuses with words. */
export function valueSchema<T>(
  read: (given: unknown, refuse: (message: string, hint: string) => undefined) => T | undefined,
): z.ZodType<T> {
  return z.unknown().transform((given, context): T => {
    let refused = false;
    const value = read(given, (message, hint) => {
      refused = true;
      context.addIssue({ code: 'custom', message, params: { hint } satisfies Refusal });
      return undefined;
    });
    return refused ? z.NEVER : (value as T);
  });
}

/** Bytes: a whole number, or a number with B, KiB, MiB, GiB or TiB. */
export function sizeSchema(bounds: { readonly min: number; readonly max?: number }): z.ZodType<number> {
  const { min, max = Number.MAX_SAFE_INTEGER } = bounds;
  return valueSchema((given, refuse) => {
    const text = textOf(given);
    const hint = 'write it as 512MiB, 100GiB or 2TiB';
    if (!/^\d+(\.\d+)?\s*([kmgt]i)?b?$/i.test(text)) return refuse('is not a size', hint);
    const size = Math.floor(bytes.parse(text) ?? NaN);
    if (!Number.isSafeInteger(size)) return refuse('is not a size', hint);
    if (size < min) return refuse(`is less than ${formatSize(min)}, the least that works`, hint);
    if (size > max) return refuse(`is more than ${formatSize(max)}, the most that works`, hint);
    return size;
  });
}

/** Milliseconds, from a number with ms, s, m, h or d. */
export function durationSchema(bounds: {
  readonly minMs: number;
  readonly maxMs?: number;
}): z.ZodType<number> {
  return valueSchema((given, refuse) => {
    const text = textOf(given);
    const hint = 'write it as 500ms, 10s, 5m, 2h or 7d';
    if (!/^\d+(\.\d+)?\s*(ms|s|m|h|d)$/.test(text)) return refuse('is not a duration', hint);
    const durationMs = ms(text as StringValue);
    if (!Number.isFinite(durationMs)) return refuse('is not a duration', hint);
    if (durationMs < bounds.minMs) return refuse(`is less than ${ms(bounds.minMs)}`, hint);
    if (bounds.maxMs !== undefined && durationMs > bounds.maxMs) {
      return refuse(`is more than ${ms(bounds.maxMs)}`, hint);
    }
    return durationMs;
  });
}

export function wholeNumberSchema(bounds: { readonly min: number; readonly max: number }): z.ZodType<number> {
  return valueSchema((given, refuse) => {
    const text = textOf(given);
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    const within = `a whole number from ${bounds.min} to ${bounds.max}`;
    if (!(value >= bounds.min && value <= bounds.max)) return refuse(`is not ${within}`, `give ${within}`);
    return value;
  });
}

export const switchSchema: z.ZodType<boolean> = valueSchema((given, refuse) => {
  if (typeof given === 'boolean') return given;
  const text = textOf(given).toLowerCase();
  if (['true', 'yes', 'on', '1'].includes(text)) return true;
  if (['false', 'no', 'off', '0'].includes(text)) return false;
  return refuse('is neither true nor false', 'write true or false');
});

export function choiceSchema<const Choice extends string>(choices: readonly Choice[]): z.ZodType<Choice> {
  return valueSchema((given, refuse) => {
    const text = textOf(given);
    const choice = choices.find((known) => known === text);
    if (choice !== undefined) return choice;
    const meant = nearMiss(text, choices);
    return refuse(
      `is none of ${choices.join(', ')}`,
      meant === undefined ? `choose ${choices.join(' or ')}` : `did you mean ${meant}?`,
    );
  });
}

/** A path, made absolute by the caller who knows the working directory. */
export const pathSchema: z.ZodType<string> = valueSchema((given, refuse) => {
  if (typeof given !== 'string' || given === '') return refuse('is not a path', 'name a file or a directory');
  if (given.includes('\0')) return refuse('has a NUL byte in it', 'name a file or a directory');
  return given;
});

/** `host:port`; an IPv6 address stands in brackets. Port 0 (any free one) only where one listens. */
export function endpointSchema(use: 'listen' | 'connect'): z.ZodType<Endpoint> {
  return valueSchema((given, refuse) => {
    const endpoint = parseEndpoint(textOf(given));
    if (typeof endpoint === 'string')
      return refuse(endpoint, 'write host:port, such as 10.0.0.1:7420 or [::1]:7420');
    if (endpoint.port === 0 && use === 'connect') {
      return refuse('has port 0, where nothing can listen', "name the origin's port");
    }
    return endpoint;
  });
}

/** @returns the endpoint, or what is wrong with the text. */
export function parseEndpoint(text: string): Endpoint | string {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d*)$/.exec(text);
  if (match === null) {
    if (/^\[[^\]]*\]$/.test(text)) return 'has no port';
    if (/^[^/]*:[^/]*:/.test(text)) return 'has more than one colon, but no brackets around an IPv6 address';
    return text.includes(':') ? 'is not host:port' : 'has no port';
  }
  const [, address, name, portText] = match;
  const host = address ?? name ?? '';
  const port = Number(portText);
  if (host === '') return 'has no host';
  if (portText === '') return 'has no port';
  if (port > PORT_MAX) return `has a port over ${PORT_MAX}`;
  const valid =
    address === undefined
      ? host.length <= HOST_CHARACTERS_MAX && /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?$/.test(host)
      : URL.canParse(`http://[${host}]/`);
  return valid ? { host, port } : `has no valid host in ${JSON.stringify(host)}`;
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Only this host is reached there, or reaches it from there. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** `key=value` pairs: a map in a file, repeated in flags, separated by commas in an environment variable. */
export const labelsSchema: z.ZodType<Readonly<Record<string, string>>> = valueSchema((given, refuse) => {
  const hint = 'write key=value, such as rack=a1';
  const labels = new Map<string, string>();
  for (const pair of pairsOf(given)) {
    if (pair === undefined) return refuse('is not key=value', hint);
    const [key, value] = pair;
    if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,62}$/.test(key)) {
      return refuse(`has no valid name in ${JSON.stringify(key)}`, hint);
    }
    if (labels.has(key)) return refuse(`gives ${key} twice`, 'give every label once');
    labels.set(key, value);
  }
  return Object.fromEntries(labels);
});

/** Splits what stands for a list of `name=value`; an undefined member is malformed. */
export function pairsOf(
  given: unknown,
  separator: RegExp = /,/,
): readonly (readonly [string, string] | undefined)[] {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) {
    return Object.entries(given).map(([key, value]) =>
      ['string', 'number', 'boolean'].includes(typeof value) ? [key, String(value)] : undefined,
    );
  }
  const texts = Array.isArray(given) ? given.map(textOf) : textOf(given).split(separator).filter(Boolean);
  return texts.map((text) => {
    const at = text.indexOf('=');
    return at > 0 ? [text.slice(0, at).trim(), text.slice(at + 1).trim()] : undefined;
  });
}

export function formatSize(sizeBytes: number): string {
  return bytes.format(sizeBytes, { mode: 'binary' }) ?? String(sizeBytes);
}

/** The words of a scalar; of anything else nothing, which no schema accepts. */
export function textOf(given: unknown): string {
  if (typeof given === 'string') return given.trim();
  return typeof given === 'number' || typeof given === 'boolean' ? String(given) : '';
}

/** A URL as it may be shown. */
export function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^/@\s]*@/g, '//***@');
}
