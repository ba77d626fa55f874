/** Reads the kernel's table of mounts (`/proc/self/mountinfo`, see proc(5)). Pure. */

export interface MountRecord {
  /** `major:minor` of the file system. */
  readonly device: string;
  readonly mountpoint: string;
  /** Such as `fuse.perigee`. */
  readonly type: string;
  readonly source: string;
  readonly readOnly: boolean;
}

/** Blanks, newlines and backslashes are written as three octal digits, byte by byte. */
function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  const plain = bytes.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(plain, 'latin1').toString('utf8');
}

/** In the order of the table: of two mounts on one path the later one is on top. Lines that make no sense are left out. */
export function parseMountTable(mountInfo: string): MountRecord[] {
  const records: MountRecord[] = [];
  for (const line of mountInfo.split('\n')) {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [, , device, , mountpoint, options] = fields;
    const [type, source] = separator === -1 ? [] : fields.slice(separator + 1);
    if (device === undefined || mountpoint === undefined || options === undefined) continue;
    if (type === undefined || source === undefined) continue;
    records.push({
      device,
      mountpoint: unescapeOctal(mountpoint),
      type: unescapeOctal(type),
      source: unescapeOctal(source),
      readOnly: options.split(',').includes('ro'),
    });
  }
  return records;
}

/** The mount on top of a path. */
export function findMount(records: readonly MountRecord[], mountpoint: string): MountRecord | undefined {
  return records.findLast((record) => record.mountpoint === mountpoint);
}
