/**
 * Splits a fill into GETs and makes one watermark of their progress. Pure.
 *
 * Invariants: parts are contiguous, cover the range exactly, and begin at block boundaries; an object that one
 * GET may cover whole is never split, so that it can be verified as a whole; the watermark never goes back and
 * never passes a byte that has not been reported.
 */
export interface FillPart {
  readonly offset: number;
  readonly length: number;
}

export function splitFill(
  range: FillPart,
  limits: { readonly blockBytes: number; readonly getBytesMax: number },
): readonly FillPart[] {
  const partBytes = Math.max(
    limits.blockBytes,
    Math.floor(limits.getBytesMax / limits.blockBytes) * limits.blockBytes,
  );
  if (range.length <= Math.max(partBytes, limits.getBytesMax)) return [range];
  const parts: FillPart[] = [];
  const end = range.offset + range.length;
  for (let offset = range.offset; offset < end; offset += partBytes) {
    parts.push({ offset, length: Math.min(partBytes, end - offset) });
  }
  return parts;
}

export class FillWatermark {
  readonly #parts: readonly FillPart[];
  readonly #filledTo: number[];
  #first = 0;
  #value: number;

  constructor(parts: readonly FillPart[]) {
    this.#parts = parts;
    this.#filledTo = parts.map((part) => part.offset);
    this.#value = parts[0]?.offset ?? 0;
  }

  /** Notes the progress of one part; returns the new watermark, or undefined if it has not moved. */
  advance(index: number, filledTo: number): number | undefined {
    if (filledTo <= (this.#filledTo[index] ?? Infinity)) return undefined;
    this.#filledTo[index] = filledTo;
    let value = this.#value;
    for (; this.#first < this.#parts.length; this.#first++) {
      const part = this.#parts[this.#first]!;
      value = this.#filledTo[this.#first]!;
      if (value < part.offset + part.length) break;
    }
    if (value <= this.#value) return undefined;
    this.#value = value;
    return value;
  }
}
