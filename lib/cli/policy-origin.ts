/** How the commands about policies reach their origin, and read a document from a file. */
import fs from 'node:fs';
import path from 'node:path';
import { UsageError } from '../base/errors.ts';
import { DOCUMENT_BYTES_MAX, type Finding, findingText } from '../policy/document-source.ts';
import { type PolicyDocument, readPolicyDocument } from '../policy/policy-document.ts';
import { type CommandContext } from './command.ts';
import { nameText } from './format.ts';
import { chosenOrigin } from './origin-option.ts';
import { type Flags } from './options.ts';
import { type PolicyCalls } from './policy-calls.ts';

/** Connects for the time of `run`. */
export async function withPolicies<T>(
  { flags, context }: { readonly flags: Flags; readonly context: CommandContext },
  run: (calls: PolicyCalls, origin: string) => Promise<T>,
): Promise<T> {
  const { origin, credentials } = await chosenOrigin(flags, context);
  const calls = await context.runtime.policies({ origin, credentials });
  try {
    return await run(calls, origin);
  } finally {
    await calls.close();
  }
}

export interface DocumentFile {
  /** As it was named. */
  readonly file: string;
  readonly text: string;
  readonly document: PolicyDocument;
}

/** @throws UsageError with every fault of the document */
export async function readDocumentFile(
  file: string,
  { workingDirectory, stdin }: CommandContext,
): Promise<DocumentFile> {
  const text =
    file === '-' ? await readAll(stdin) : await readText(file, path.resolve(workingDirectory, file));
  const read = readPolicyDocument(text);
  if (read.kind === 'right') return { file, text, document: read.document };
  const faults = read.faults.map((fault) => `${nameText(file)}:${findingText(fault)}`);
  throw new UsageError(`the document is refused\n${faults.join('\n')}`, {
    hint: 'nothing was changed; the README shows a whole document',
  });
}

/** Reads no further than to find that it is too much, which the reader of documents says. */
async function readAll(stdin: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of stdin) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes > DOCUMENT_BYTES_MAX) break;
  }
  return Buffer.concat(pieces).toString('utf8');
}

async function readText(file: string, place: string): Promise<string> {
  try {
    const { size } = await fs.promises.stat(place);
    if (size > DOCUMENT_BYTES_MAX) throw new Error(`it has ${size} bytes, over ${DOCUMENT_BYTES_MAX}`);
    return await fs.promises.readFile(place, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read ${nameText(file)}`, {
      cause: error,
      hint: 'name a document of policies, YAML or JSON, with -f',
    });
  }
}

/** One line for people. Places are those of the file, if it is known. */
export function warningText(warning: Finding, file: string | undefined): string {
  if (warning.line === 0) return `warning: ${warning.message} (${warning.hint})`;
  return `warning: ${file === undefined ? '' : `${nameText(file)}:`}${findingText(warning)}`;
}
