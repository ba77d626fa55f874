/** Settings that name a file, or none. */
import path from 'node:path';
import { type Setting, setting } from './settings.ts';
import { pathSchema } from './values.ts';

export function optionalFile(description: string): Setting<string | undefined> {
  return setting<string | undefined>({
    schema: pathSchema,
    description,
    placeholder: 'file',
    fallback: { value: undefined },
  });
}

/** The absolute path of a file that may not be given: a process in the background has another working directory. */
export function resolveOptional(workingDirectory: string, file: string | undefined): string | undefined {
  return file === undefined ? undefined : path.resolve(workingDirectory, file);
}
