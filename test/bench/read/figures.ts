/** Rows of the comparison: medians, ratios, and the table that people read. */

export interface Side {
  readonly name: string;
  /** One for each run; empty: could not be measured, and `note` says why. */
  readonly values: readonly number[];
  readonly note?: string;
}

export interface Row {
  readonly measure: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly perigee: Side;
  readonly others: readonly Side[];
  /**
   * What must hold between perigee and the best of the others (or all of them): `>= 0.95` for rates,
   * `<= 1.5` for times. Absent: reported only.
   */
  readonly must?: number;
  readonly note?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export interface Comparison {
  readonly measure: string;
  readonly perigee: string;
  readonly against: string;
  readonly theirs: string;
  readonly ratio: number | undefined;
  readonly must: string;
  readonly verdict: 'yes' | 'no' | 'reported' | 'not measured';
  readonly note: string;
}

/** One comparison for each other side; where a target is set it is judged against the best of them. */
export function compare(row: Row): readonly Comparison[] {
  const ours = row.perigee.values.length === 0 ? undefined : median(row.perigee.values);
  const sign = row.better === 'higher' ? '>=' : '<=';
  const sides = row.others.length === 0 ? [{ name: '-', values: [] }] : row.others;
  const medians = sides.map((side) => (side.values.length === 0 ? undefined : median(side.values)));
  const known = medians.filter((value) => value !== undefined);
  const best = row.better === 'higher' ? Math.max(...known) : Math.min(...known);
  return sides.map((side, index) => {
    const theirs = medians[index];
    const ratio = ours === undefined || theirs === undefined ? undefined : ours === 0 ? 0 : ours / theirs;
    const isJudged = row.must !== undefined && (theirs === best || theirs === undefined);
    const isMet = ratio !== undefined && (row.better === 'higher' ? ratio >= row.must! : ratio <= row.must!);
    return {
      measure: row.measure,
      perigee: show(row.perigee, row.unit),
      against: side.name,
      theirs: side.name === '-' ? '' : show(side, row.unit),
      ratio,
      must: isJudged ? `${sign} ${row.must}` : '',
      verdict:
        ratio === undefined && isJudged ? 'not measured' : isJudged ? (isMet ? 'yes' : 'no') : 'reported',
      note: [row.note, row.perigee.note, 'note' in side ? side.note : undefined].filter(Boolean).join('; '),
    };
  });
}

function show(side: Side, unit: string): string {
  if (side.values.length === 0) return 'n/a';
  const [least, most] = [Math.min(...side.values), Math.max(...side.values)];
  return `${digits(median(side.values))} ${unit} (${digits(least)}-${digits(most)})`;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function tableOf(rows: readonly Row[]): string {
  const header = [
    'measure',
    'perigee: median (min-max)',
    'against',
    'median (min-max)',
    'ratio',
    'must',
    'met',
  ];
  const comparisons = rows.flatMap((row) => compare(row));
  const lines = comparisons.map((each, index) => [
    comparisons[index - 1]?.measure === each.measure ? '' : each.measure,
    comparisons[index - 1]?.measure === each.measure ? '' : each.perigee,
    each.against,
    each.theirs,
    each.ratio === undefined ? '' : each.ratio.toFixed(2),
    each.must,
    each.verdict === 'reported' ? '' : each.verdict,
  ]);
  const widths = header.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => line[column]!.length)),
  );
  const text = (line: readonly string[]): string =>
    line
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd();
  const notes = new Set(
    comparisons.filter(({ note }) => note).map(({ measure, note }) => `${measure}: ${note}`),
  );
  return [text(header), text(widths.map((width) => '-'.repeat(width))), ...lines.map(text), ...notes].join(
    '\n',
  );
}
