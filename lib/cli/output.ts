/** What commands print to: data on standard output, the rest on standard error. A reader that goes away ends the command quietly. */

export interface Output {
  /** Standard output is a terminal: a line may be drawn over. */
  readonly terminal: boolean;
  /** One line of data. */
  line(text: string): void;
  json(value: unknown): void;
  /** Draws the last line again, on a terminal only. */
  redraw(text: string): void;
  /** One line for people, beside the data. */
  note(text: string): void;
}

const COLUMNS_DEFAULT = 80;
const CLEAR_LINE = '\r\u001b[2K';

export function streamOutput(streams: {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}): Output {
  const { stdout, stderr } = streams;
  let gone = false;
  let drawn = false;
  for (const stream of [stdout, stderr]) stream.on('error', () => (gone = true));
  const write = (stream: NodeJS.WriteStream, text: string): void => {
    if (!gone) stream.write(text);
  };
  const endDrawing = (): void => {
    if (drawn) write(stdout, '\n');
    drawn = false;
  };
  const line = (text: string): void => {
    endDrawing();
    write(stdout, `${text}\n`);
  };
  return {
    terminal: stdout.isTTY,
    line,
    json: (value) => line(JSON.stringify(value, undefined, 2)),
    redraw(text) {
      drawn = true;
      write(stdout, CLEAR_LINE + text.slice(0, (stdout.columns || COLUMNS_DEFAULT) - 1));
    },
    note(text) {
      endDrawing();
      write(stderr, `${text}\n`);
    },
  };
}
