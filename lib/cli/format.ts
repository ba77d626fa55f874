/** Figures and tables as people read them. */
import ms from 'ms';
import prettyBytes from 'pretty-bytes';

export function bytesText(bytes: number): string {
  return prettyBytes(bytes, { binary: true });
}

export function durationText(seconds: number): string {
  return ms(Math.round(seconds) * 1000, { long: true });
}

export function countText(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
}

/** Columns padded to their widest cell; the last is left as it is, so names of any script go there. */
export function tableText(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  '),
  );
}

/** A name in one line: control characters are written as in JSON, so that no name can drive the terminal. */
export function nameText(name: string): string {
  if (!/[\u0000-\u001f\u007f-\u009f]/.test(name)) return name;
  return JSON.stringify(name).replaceAll(
    /[\u007f-\u009f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
