/** The known word that a mistyped one was probably meant to be: edits and swaps of neighbours, at most a third of it. */

export function nearMiss(given: string, known: Iterable<string>): string | undefined {
  let best: { readonly word: string; readonly distance: number } | undefined;
  const wanted = given.toLowerCase();
  for (const word of known) {
    const distance = distanceOf(wanted, word.toLowerCase());
    const longest = Math.max(wanted.length, word.length);
    if (distance <= Math.max(1, Math.floor(longest / 3)) && distance < (best?.distance ?? Infinity)) {
      best = { word, distance };
    }
  }
  return best?.word;
}

/** Optimal string alignment distance. */
function distanceOf(a: string, b: string): number {
  const at = (rows: number[][], i: number, j: number): number => rows[i]?.[j] ?? 0;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let edits = Math.min(
        at(rows, i - 1, j) + 1,
        at(rows, i, j - 1) + 1,
        at(rows, i - 1, j - 1) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, at(rows, i - 2, j - 2) + 1);
      }
      row.push(edits);
    }
  }
  return at(rows, a.length, b.length);
}
