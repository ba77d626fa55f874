/**
 * The root of every error that Perigee raises on purpose. Each layer has one small subclass in its contract
 * file with a closed set of literal codes; people get `hint`, programs get `code`, logs get the `cause` chain.
 */
export interface ErrorDetails {
  readonly cause?: unknown;
  /** What a person can do about it, one sentence without a full stop. */
  readonly hint?: string;
}

export abstract class PerigeeError<Code extends string = string> extends Error {
  /** The layer that raised it, such as `store` or `cache`. */
  abstract readonly layer: string;
  readonly code: Code;
  readonly hint: string | undefined;

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.name = new.target.name;
  }
}

/** Wrong usage of a command, a flag or a configuration file: exit code 2. */
export class UsageError extends PerigeeError<'usage'> {
  override readonly layer = 'usage';
  constructor(message: string, details?: ErrorDetails) {
    super('usage', message, details);
  }
}

/** Raised by `invariant`; a fault of ours. */
export class InvariantError extends PerigeeError<'invariant'> {
  override readonly layer = 'invariant';
  constructor(message: string) {
    super('invariant', message);
  }
}

/** Stays on in production. A broken invariant is EIO for one request, except where a module's head says it stops the process. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** The text of anything thrown, with its chain of causes, for a log or a terminal. */
export function describeError(error: unknown): string {
  const texts: string[] = [];
  for (let at: unknown = error; at !== undefined && texts.length < 8;) {
    const text =
      at instanceof Error ? at.message || at.name : typeof at === 'string' ? at : JSON.stringify(at);
    // An error that quotes its cause has said it already.
    if (!texts.some((said) => said.includes(text))) texts.push(text);
    at = at instanceof Error ? at.cause : undefined;
  }
  return texts.join(': ');
}

/** The hint nearest to the top of a chain of causes. */
export function hintOf(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at instanceof PerigeeError && at.hint !== undefined) return at.hint;
  }
  return undefined;
}
