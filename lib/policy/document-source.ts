/**
 * The text of a document with its places: what it says, what is wrong with it as YAML, and where in it something is.
 * Text and aliases are bounded, so that no document can cost more than reading it.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { describeError } from '../base/errors.ts';
import { KIB } from '../base/limits.ts';
import { API_VERSION } from './policy-schema.ts';

/** A thousand policies that say a lot; with what comes around it, it fits a request to the origin. */
export const DOCUMENT_BYTES_MAX = 768 * KIB;
export const ALIASES_MAX = 100;
export const SHAPE_HINT = `write apiVersion: ${API_VERSION} and policies: with a list; policies: [] for none`;

/** Something to say about a place in the text. */
export interface Finding {
  readonly line: number;
  readonly column: number;
  readonly message: string;
  readonly hint: string | undefined;
}

export type KeyPath = readonly PropertyKey[];

export function findingText({ line, column, message, hint }: Finding): string {
  return `${line}:${column}: ${message}${hint === undefined ? '' : ` (${hint})`}`;
}

/** The text with its places. */
export class DocumentSource {
  readonly faults: Finding[] = [];
  readonly #lines = new LineCounter();
  readonly #document: ReturnType<typeof parseDocument> | undefined;

  constructor(text: string) {
    if (Buffer.byteLength(text) > DOCUMENT_BYTES_MAX) {
      this.faults.push({
        ...{ line: 1, column: 1, hint: 'policies match by prefix and glob; one covers many files' },
        message: `the document has more than ${DOCUMENT_BYTES_MAX} bytes`,
      });
      return;
    }
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    for (const { pos, message } of [...this.#document.errors, ...this.#document.warnings]) {
      this.faults.push(this.#at(pos[0], message, 'the document must be YAML or JSON'));
    }
  }

  value(): unknown {
    if (this.#document === undefined || this.faults.length > 0) return undefined;
    if (this.#document.contents === null) {
      this.faults.push({ line: 1, column: 1, message: 'the document is empty', hint: SHAPE_HINT });
      return undefined;
    }
    try {
      return this.#document.toJS({ maxAliasCount: ALIASES_MAX });
    } catch (error) {
      this.faults.push(this.#at(0, describeError(error), 'write out what the aliases stand for'));
      return undefined;
    }
  }

  /** At the key of a path for a value that is not there or not wanted, else at its value. */
  finding(path: KeyPath, message: string, hint: string | undefined, of: 'key' | 'value' = 'value'): Finding {
    let node: unknown = this.#document?.contents;
    let place = 0;
    for (const [depth, key] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document!);
      const last = depth === path.length - 1;
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
        if (pair === undefined) break;
        node = last && of === 'key' ? pair.key : (pair.value ?? pair.key);
      } else if (isSeq(node)) {
        node = node.items[Number(key)];
      } else break;
      place = (node as Node | undefined)?.range?.[0] ?? place;
    }
    const where = pathText(path);
    return this.#at(place, where === '' ? message : `${where}: ${message}`, hint);
  }

  #at(offset: number, message: string, hint: string | undefined): Finding {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1), message, hint };
  }
}

function pathText(path: KeyPath): string {
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .slice(1);
}
