/** Processes that write files at the same time, the same for every side. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { FileWriterAnswer, FileWriterTask } from './file-writer.ts';

export interface WriteLoad {
  readonly writers: number;
  /** Of each writer. */
  readonly files: number;
  readonly fileBytes: number;
  /** fsync(2) before each close. */
  readonly sync: boolean;
}

/** The names that a load makes. */
export function loadFiles({ writers, files }: WriteLoad): readonly (readonly string[])[] {
  return Array.from({ length: writers }, (_, writer) =>
    Array.from({ length: files }, (__, file) => `w${writer}-${String(file).padStart(5, '0')}`),
  );
}

export function loadBytes({ writers, files, fileBytes }: WriteLoad): number {
  return writers * files * fileBytes;
}

/** Seconds from the first open to the last close. */
export async function writeLoad(directory: string, load: WriteLoad): Promise<number> {
  const children = loadFiles(load).map((names) => ({
    child: fork(path.join(import.meta.dirname, 'file-writer.ts')),
    task: {
      files: names.map((name) => path.join(directory, name)),
      fileBytes: load.fileBytes,
      sync: load.sync,
    } satisfies FileWriterTask,
  }));
  try {
    await Promise.all(children.map(({ child }) => once(child, 'message')));
    const startedMs = performance.now();
    const answers = children.map(({ child, task }) => {
      child.send(task);
      return Promise.race([once(child, 'message'), once(child, 'exit')]);
    });
    for (const [answer] of await Promise.all(answers)) {
      const { error } = (answer ?? { error: 'a writer died' }) as FileWriterAnswer;
      if (error !== undefined) throw new Error(error);
    }
    return (performance.now() - startedMs) / 1000;
  } finally {
    for (const { child } of children) child.kill();
  }
}
