/** Messages on their way into a stream: a bounded queue that its one reader iterates until it is ended. */
export class StreamOutbox<Message> implements AsyncIterable<Message> {
  readonly #messagesMax: number;
  #messages: Message[] = [];
  #end: { readonly error: Error | undefined } | undefined;
  #wake: (() => void) | undefined;

  constructor(messagesMax: number) {
    this.#messagesMax = messagesMax;
  }

  /** @returns false if there is no room; the message is not taken */
  push(message: Message): boolean {
    if (this.#end !== undefined) return true;
    if (this.#messages.length >= this.#messagesMax) return false;
    this.#messages.push(message);
    this.#wake?.();
    return true;
  }

  /** The reader gets what was pushed, and then the end, or the error. What is pushed later is thrown away. */
  end(error?: Error): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message> {
    for (;;) {
      const batch = this.#messages;
      this.#messages = [];
      yield* batch;
      if (this.#messages.length > 0) continue;
      if (this.#end !== undefined) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }
}
