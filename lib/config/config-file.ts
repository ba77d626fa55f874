/**
 * The YAML configuration file: one section a process, keys as the flags are called.
 *
 * Guarantees: a key that nobody reads is refused with its line and column and the key that was probably meant;
 * so is anything that is not a map of settings, and a file that cannot be read.
 */
import fs from 'node:fs';
import {
  type Document,
  isMap,
  isScalar,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { describeError, UsageError } from '../base/errors.ts';
import { nearMiss } from './near-miss.ts';
import { type Layer, type Settings } from './settings.ts';

/** A configuration is written by hand; anything larger is another kind of file. */
const FILE_BYTES_MAX = 1024 * 1024;
const ALIASES_MAX = 100;

/** Sections by name, each with its settings. */
export type Sections = Readonly<Record<string, Settings>>;

export class ConfigFile {
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #document: Document;
  readonly #sections = new Map<string, YAMLMap>();

  private constructor(file: string, text: string, sections: Sections) {
    this.#file = file;
    const document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    this.#document = document;
    const fault = document.errors[0];
    if (fault !== undefined) throw this.#refuse(fault.pos[0], fault.message, 'the file must be YAML');
    if (isEmpty(document.contents)) return;
    for (const { key, value } of this.#entries(document.contents, Object.keys(sections))) {
      if (isEmpty(value)) continue;
      const known = sections[key] ?? {};
      this.#entries(value, Object.keys(known), key);
      this.#sections.set(key, value as YAMLMap);
    }
  }

  /** Reads the file that was asked for, or the usual one if it exists. */
  static load(
    file: { readonly asked: string | undefined; readonly usual: string },
    sections: Sections,
  ): ConfigFile | undefined {
    const name = file.asked ?? file.usual;
    let text: string;
    try {
      const { size } = fs.statSync(name);
      if (size > FILE_BYTES_MAX) throw new Error(`it has ${size} bytes, over ${FILE_BYTES_MAX}`);
      text = fs.readFileSync(name, 'utf8');
    } catch (error) {
      const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (absent && file.asked === undefined) return undefined;
      throw new UsageError(`cannot read the configuration file ${name}`, {
        cause: error,
        hint: 'name a readable YAML file with --config',
      });
    }
    return new ConfigFile(name, text, sections);
  }

  layer(section: string): Layer {
    return (key) => {
      const pair = this.#sections.get(section)?.items.find((item) => keyOf(item) === key);
      const node = pair?.value as Node | null | undefined;
      if (node === undefined || isEmpty(node)) return undefined;
      const offset = node?.range?.[0] ?? 0;
      return { value: this.#valueOf(node, offset), from: `${this.#place(offset)}: ${section}.${key}` };
    };
  }

  /** What YAML says, its aliases followed. */
  #valueOf(node: Node | null, offset: number): unknown {
    try {
      return node?.toJS(this.#document, { maxAliasCount: ALIASES_MAX });
    } catch (error) {
      throw this.#refuse(offset, describeError(error), 'the file must be YAML');
    }
  }

  /** The pairs of a map whose keys are all known. */
  #entries(node: unknown, known: readonly string[], section?: string) {
    const offset = (node as Node).range?.[0] ?? 0;
    const where = section === undefined ? 'the file' : `the section ${section}`;
    if (!isMap(node)) {
      throw this.#refuse(
        offset,
        `${where} is not a map of names to values`,
        `it may have ${known.join(', ')}`,
      );
    }
    return node.items.map((item) => {
      const key = keyOf(item);
      if (!known.includes(key)) {
        const at = (item.key as Node).range?.[0] ?? offset;
        const meant = nearMiss(key, known);
        const hint = meant === undefined ? `known are ${known.join(', ')}` : `did you mean ${meant}?`;
        throw this.#refuse(at, `${where} has an unknown key ${JSON.stringify(key)}`, hint);
      }
      return { key, value: item.value as Node | null };
    });
  }

  #refuse(offset: number, message: string, hint: string): UsageError {
    return new UsageError(`${this.#place(offset)}: ${message}`, { hint });
  }

  #place(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.#file}:${line}:${col}`;
  }
}

/** Nothing was written, or null. */
function isEmpty(node: unknown): boolean {
  return node === null || node === undefined || (isScalar(node) && node.value === null);
}

function keyOf(item: Pair): string {
  return isScalar(item.key) ? String(item.key.value) : String(item.key);
}
