/** Writes the conformance tree into a local directory. */
import { chmodSync, lutimesSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { conformanceTree, contentOf } from './tree.ts';

export function writeTree(root: string): void {
  for (const entry of conformanceTree) {
    const path = join(root, entry.path);
    if (entry.kind === 'directory') mkdirSync(path);
    else if (entry.kind === 'symlink') symlinkSync(entry.target ?? '', path);
    else writeFileSync(path, contentOf(entry));
    if (entry.kind !== 'symlink') chmodSync(path, entry.mode);
    const seconds = entry.modifiedMs / 1000;
    if (entry.kind === 'symlink') lutimesSync(path, seconds, seconds);
    else utimesSync(path, seconds, seconds);
  }
}
