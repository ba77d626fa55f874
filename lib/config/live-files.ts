/**
 * Files of people that may change while a process runs: certificates, keys, tokens.
 *
 * Guarantees: `current` is what the files say, at most RECHECK_MS late; while they make no sense (half replaced, not
 * readable, wrong inside) it is what they said last, and `onBroken` is told once for each such state. Nothing runs in
 * between: the files are looked at when somebody asks.
 */
import fs from 'node:fs';
import { type Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';

const RECHECK_MS = 1_000;
const FILE_BYTES_MAX = 4 * 1024 * 1024;
/** Permission bits of everybody but owner and group. */
const OTHERS = 0o007;

export interface LiveFile {
  /** For people: the flag that named it. */
  readonly flag: string;
  readonly path: string;
  /** Refused if everybody may read it. */
  readonly isSecret: boolean;
}

export interface LiveFilesOptions<T> {
  readonly files: readonly LiveFile[];
  /** From the texts of the files in their order. @throws UsageError */
  readonly parse: (texts: readonly string[]) => T;
  readonly clock: Clock;
  readonly onChange?: () => void;
  readonly onBroken?: (error: unknown) => void;
}

export class LiveFiles<T> {
  readonly #options: LiveFilesOptions<T>;
  #checkedMs: number;
  /** Of the state that was read last, whether it made sense or not. */
  #fingerprint: string;
  #value: T;

  /** @throws UsageError if the files make no sense now. */
  constructor(options: LiveFilesOptions<T>) {
    this.#options = options;
    this.#checkedMs = options.clock.nowMs();
    this.#fingerprint = this.#lookAt();
    this.#value = this.#read();
  }

  /** The same object as long as the files have not changed. */
  current(): T {
    const { clock, onChange, onBroken } = this.#options;
    const nowMs = clock.nowMs();
    if (nowMs - this.#checkedMs < RECHECK_MS) return this.#value;
    this.#checkedMs = nowMs;
    // Before the files are read: what changes meanwhile is found by the next look.
    const fingerprint = this.#lookAt();
    if (fingerprint === this.#fingerprint) return this.#value;
    this.#fingerprint = fingerprint;
    try {
      this.#value = this.#read();
      onChange?.();
    } catch (error) {
      onBroken?.(error);
    }
    return this.#value;
  }

  #lookAt(): string {
    return this.#options.files.map(({ path }) => fingerprintOf(path)).join(' ');
  }

  #read(): T {
    return this.#options.parse(this.#options.files.map(readText));
  }
}

function fingerprintOf(path: string): string {
  try {
    const { dev, ino, size, mode, mtimeNs, ctimeNs } = fs.statSync(path, { bigint: true });
    return [dev, ino, size, mode, mtimeNs, ctimeNs].join(':');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

function readText({ flag, path, isSecret }: LiveFile): string {
  let text: string;
  let mode: number;
  try {
    const stat = fs.statSync(path);
    mode = stat.mode;
    if (stat.size > FILE_BYTES_MAX) throw new Error(`it has ${stat.size} bytes, over ${FILE_BYTES_MAX}`);
    text = fs.readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${flag}: cannot read ${path}`, {
      cause: error,
      hint: 'name a file that this user may read',
    });
  }
  if (isSecret && (mode & OTHERS) !== 0) {
    throw new UsageError(`${flag}: every user of this host may read ${path}, which is a secret`, {
      hint: `chmod 600 ${path}, or 640 with the group of the process`,
    });
  }
  return text;
}
