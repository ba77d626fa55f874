/** Names of the files of a set: hundred folders, so that no directory is large. */
export function fileName(index: number): string {
  return `${String(index % 100).padStart(2, '0')}/${String(index).padStart(5, '0')}.bin`;
}
