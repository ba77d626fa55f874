/** `perigee put`: files, directories or standard input become files of an export. */
import fs from 'node:fs';
import path from 'node:path';
import { type Command } from 'commander';
import PQueue from 'p-queue';
import { describeError, UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT, type ExitCode } from './environment.ts';
import {
  EXPORT_PATH_MEANING,
  type ExportPath,
  parseExportPath,
  withChanges,
  withCredentials,
} from './export-path.ts';
import { bytesText, countText, nameText } from './format.ts';
import { type Flags } from './options.ts';
import { type ExportChanges, type PutAttributes, type PutResult } from './runtime.ts';

const FILES_AT_ONCE = 8;

export function putCommand(context: CommandContext): Command {
  const command = makeCommand('put', {
    description:
      'Puts a file, a directory (--recursive) or standard input (-) into an export; a file that is there is replaced whole.',
    examples: [
      'perigee put ./000.tar 10.0.0.1:7420/datasets/train/000.tar',
      'perigee put --recursive ./train 10.0.0.1:7420/datasets/',
      'perigee put - 10.0.0.1:7420/datasets/notes.txt',
    ],
  })
    .argument('<file>', 'a file, a directory, or - for standard input')
    .argument('<path>', `${EXPORT_PATH_MEANING}; with a slash at its end, the directory to put it into`)
    .option('-r, --recursive', 'a directory with all that is in it');
  return withCredentials(command).action(
    act(context, async (given: string, to: string, flags: Flags) => {
      const target = parseExportPath(to);
      const source = given === '-' ? undefined : path.resolve(context.workingDirectory, given);
      const stats = source === undefined ? undefined : await statsOf(source);
      if (stats?.isDirectory() && flags.recursive !== true) {
        throw new UsageError(`${nameText(given)} is a directory`, { hint: 'add --recursive' });
      }
      const place = placeOf(target, source);
      return withChanges(target, { flags, context }, async (changes) => {
        const putting = new Putting(changes, context, flags.json === true);
        if (source === undefined) await putting.one(place, { content: context.stdin });
        else if (stats?.isDirectory()) await putting.tree(source, place);
        else await putting.entry(source, place);
        return putting.end();
      });
    }),
  );
}

function placeOf({ path: inside, isDirectory }: ExportPath, source: string | undefined): string {
  if (!isDirectory) return inside;
  if (source === undefined) {
    throw new UsageError('standard input has no name to put into a directory', {
      hint: 'write the whole path of the new file',
    });
  }
  return (inside === '' ? '' : `${inside}/`) + path.basename(source);
}

async function statsOf(file: string): Promise<fs.Stats> {
  try {
    return await fs.promises.lstat(file);
  } catch (error) {
    throw new UsageError(`cannot read ${nameText(file)}`, {
      cause: error,
      hint: 'name a file that this user may read, or - for standard input',
    });
  }
}

/** Everything that one command puts. */
class Putting {
  readonly #changes: ExportChanges;
  readonly #context: CommandContext;
  readonly #json: boolean;
  readonly #results: PutResult[] = [];
  readonly #queue = new PQueue({ concurrency: FILES_AT_ONCE });
  #sentBytes = 0;
  #failed = 0;

  constructor(changes: ExportChanges, context: CommandContext, json: boolean) {
    this.#changes = changes;
    this.#context = context;
    this.#json = json;
  }

  /** Below the directory all that can be put is put; what cannot is told and counted. */
  async tree(source: string, place: string): Promise<void> {
    const directory = await fs.promises.lstat(source, { bigint: true });
    await this.#changes.makeDirectory(place, { parents: true, attributes: attributesOf(directory) });
    for await (const entry of await fs.promises.opendir(source)) {
      const from = path.join(source, entry.name);
      const to = `${place}/${entry.name}`;
      if (entry.isDirectory()) {
        await this.#try(from, () => this.tree(from, to));
        continue;
      }
      await this.#queue.onSizeLessThan(FILES_AT_ONCE);
      void this.#queue.add(() => this.#try(from, () => this.entry(from, to)));
    }
  }

  async entry(source: string, place: string): Promise<void> {
    const stats = await fs.promises.lstat(source, { bigint: true });
    if (stats.isSymbolicLink()) {
      const target = await fs.promises.readlink(source);
      return this.one(place, { attributes: { ...attributesOf(stats), target } });
    }
    if (!stats.isFile()) throw new UsageError(`${nameText(source)} is neither file, directory nor symlink`);
    const content = fs.createReadStream(source);
    await this.one(place, { content, sizeBytes: Number(stats.size), attributes: attributesOf(stats) });
  }

  async one(
    place: string,
    file: {
      readonly content?: AsyncIterable<Uint8Array>;
      readonly sizeBytes?: number;
      readonly attributes?: PutAttributes;
    },
  ): Promise<void> {
    const { content, sizeBytes, attributes = {} } = file;
    const result = await this.#changes.put(place, {
      attributes,
      ...(content === undefined ? {} : { content }),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      onSent: (bytes) => this.#sent(bytes),
    });
    this.#results.push(result);
  }

  async end(): Promise<ExitCode> {
    const { out } = this.#context;
    await this.#queue.onIdle();
    const bytes = this.#results.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    if (this.#json) out.json(this.#results);
    else out.line(`put ${countText(this.#results.length, 'file')}, ${bytesText(bytes)}`);
    if (this.#failed === 0) return EXIT.fine;
    return this.#results.length === 0 ? EXIT.failed : EXIT.partly;
  }

  async #try(source: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#failed += 1;
      this.#context.out.note(`perigee: put: ${nameText(source)}: ${describeError(error)}`);
    }
  }

  #sent(bytes: number): void {
    this.#sentBytes += bytes;
    const { out } = this.#context;
    if (out.terminal && !this.#json) out.redraw(`${bytesText(this.#sentBytes)} sent`);
  }
}

function attributesOf(stats: fs.BigIntStats): PutAttributes {
  return { mode: Number(stats.mode) & 0o7777, modifiedNs: stats.mtimeNs };
}
