/** An output that keeps what is printed. */
import { type Output } from '../../lib/cli/output.ts';

export class FakeOutput implements Output {
  readonly terminal: boolean;
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  readonly drawn: string[] = [];
  #waiting: { readonly text: string; readonly found: () => void }[] = [];

  constructor(options: { readonly terminal?: boolean } = {}) {
    this.terminal = options.terminal ?? false;
  }

  line(text: string): void {
    this.#add(this.stdout, text);
  }

  json(value: unknown): void {
    this.line(JSON.stringify(value));
  }

  redraw(text: string): void {
    this.#add(this.drawn, text);
  }

  note(text: string): void {
    this.#add(this.stderr, text);
  }

  /** Resolves when a line with this text is printed anywhere. */
  printed(text: string): Promise<void> {
    const all = [...this.stdout, ...this.stderr, ...this.drawn];
    if (all.some((line) => line.includes(text))) return Promise.resolve();
    return new Promise((found) => this.#waiting.push({ text, found }));
  }

  #add(lines: string[], text: string): void {
    lines.push(text);
    this.#waiting = this.#waiting.filter((waiting) => {
      if (!text.includes(waiting.text)) return true;
      waiting.found();
      return false;
    });
  }
}
