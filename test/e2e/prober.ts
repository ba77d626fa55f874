/**
 * A process that looks at one mount, because a call on a mount whose satellite is stopped does not return, and neither
 * would the process that made it. Gets requests by IPC and answers each when, and if, the call returns.
 */
import fs from 'node:fs/promises';

export type ProbeKind = 'stat' | 'read' | 'list';

export interface ProbeRequest {
  readonly id: number;
  readonly kind: ProbeKind;
  readonly path: string;
}

/** What the probe saw; bytes are of the file, whose every byte is `x`, except that its last line says how long it is. */
export type Probed =
  | { readonly kind: 'file'; readonly bytes: number }
  | { readonly kind: 'directory'; readonly names: readonly string[] }
  | { readonly kind: 'absent' }
  /** The bytes are of no version. */
  | { readonly kind: 'torn'; readonly text: string }
  | { readonly kind: 'failed'; readonly code: string };

export interface ProbeAnswer {
  readonly id: number;
  readonly probed: Probed;
}

/** The content of the version of that length: no two versions share a prefix, a suffix or a length. */
export function contentOf(bytes: number): Buffer {
  const pattern = `${bytes}.`;
  return Buffer.alloc(bytes, pattern);
}

async function probe({ kind, path }: ProbeRequest): Promise<Probed> {
  try {
    if (kind === 'stat') {
      const stat = await fs.stat(path);
      return stat.isDirectory() ? { kind: 'directory', names: [] } : { kind: 'file', bytes: stat.size };
    }
    if (kind === 'list') return { kind: 'directory', names: await fs.readdir(path) };
    const content = await fs.readFile(path);
    if (content.equals(contentOf(content.length))) return { kind: 'file', bytes: content.length };
    return { kind: 'torn', text: `${content.length} bytes, ${content.toString('latin1', 0, 40)}` };
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? { kind: 'absent' } : { kind: 'failed', code };
  }
}

if (process.send !== undefined) {
  process.on('message', (request: ProbeRequest) => {
    void probe(request).then((probed) => process.send?.({ id: request.id, probed } satisfies ProbeAnswer));
  });
  process.on('disconnect', () => process.exit());
}
