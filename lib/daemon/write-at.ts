/** Writes a whole piece into an open file, at its position, before it returns. */
import fs from 'node:fs';

/** The system may take fewer bytes than it is given. */
export function writeAt(descriptor: number, piece: Buffer, position: number): void {
  for (let done = 0; done < piece.byteLength;) {
    done += fs.writeSync(descriptor, piece, done, piece.byteLength - done, position + done);
  }
}
