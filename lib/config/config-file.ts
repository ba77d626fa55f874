/**
 * The YAML configuration file: one section a process, keys as the flags are called.
 *
 * Guarantees: a key that nobody reads is refused with its line and column and the key that was probably meant;
 * so is anything that is not a map of settings, and a file that cannot be read.
 */
import fs from 'node:fs';
import { isMap, isScalar, LineCounter, type Node, type Pair, parseDocument, type YAMLMap } from 'yaml';
import { UsageError } from '../base/errors.ts';
import { nearMiss } from './near-miss.ts';
import { type Layer, type Settings } from './settings.ts';

/** A configuration is written by hand; anything larger is another kind of file. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Sections by name, each with its settings. */
export type Sections = Readonly<Record<string, Settings>>;

export class ConfigFile {
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #sections = new Map<string, YAMLMap>();

  private constructor(file: string, text: string, sections: Sections) {
    this.#file = file;
    const document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const fault = document.errors[0];
    if (fault !== undefined) throw this.#refuse(fault.pos[0], fault.message, 'the file must be YAML');
    if (document.contents === null) return;
    for (const { key, value, node } of this.#entries(document.contents, Object.keys(sections))) {
      if (isScalar(value) && value.value === null) continue;
      const known = sections[key] ?? {};
      this.#entries(value ?? node, Object.keys(known), key);
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
      const value = pair?.value as Node | null | undefined;
      if (pair === undefined || value === undefined || value === null) return undefined;
      const json: unknown = value.toJSON();
      if (json === null) return undefined;
      return { value: json, from: `${this.#place(value.range?.[0] ?? 0)}: ${section}.${key}` };
    };
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
      return { key, value: item.value as Node | null, node: item.key as Node };
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

function keyOf(item: Pair): string {
  return isScalar(item.key) ? String(item.key.value) : String(item.key);
}
