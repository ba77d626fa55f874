/** The version of this software, from the package's own manifest: beside the source, or one folder above the compiled one. */
import fs from 'node:fs';

export function softwareVersion(): string {
  for (const place of ['../../package.json', '../../../package.json']) {
    const file = new URL(place, import.meta.url);
    if (!fs.existsSync(file)) continue;
    const manifest = JSON.parse(fs.readFileSync(file, 'utf8')) as { name?: string; version?: string };
    if (manifest.name === 'perigee' && manifest.version !== undefined) return manifest.version;
  }
  return 'unknown';
}
