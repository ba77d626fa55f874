/**
 * What object stores tell of changes: the notifications of AWS S3, MinIO and Ceph, alone or wrapped by SNS; pure.
 *
 * All three send `{ "Records": [ { "eventName", "s3": { "bucket": { "name" }, "object": { "key" } } } ] }` with the key
 * encoded as in a form (a space is `+`); MinIO puts `s3:` before the name. SNS puts that text into `Message`.
 */
import { z } from 'zod';

/** Names that the records of one message may have; AWS sends one, Ceph and MinIO few. */
const RECORDS_MAX = 1_000;
const SNS_DEPTH_MAX = 2;

const record = z.object({
  eventName: z.string(),
  s3: z.object({
    bucket: z.object({ name: z.string() }),
    object: z.object({ key: z.string().min(1) }),
  }),
});
const notification = z.object({ Records: z.array(record).max(RECORDS_MAX) });
const wrapped = z.object({ Type: z.literal('Notification'), Message: z.string() });
/** What AWS sends when a notification is set up. */
const trial = z.object({ Event: z.literal('s3:TestEvent') });

export interface ObjectEvent {
  readonly bucket: string;
  readonly key: string;
}

/** Objects that were created, removed or given other metadata; a string says why the text is no notification. */
export function parseEvents(text: string, depth = 0): readonly ObjectEvent[] | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'is not JSON';
  }
  const outer = wrapped.safeParse(value);
  if (outer.success) {
    return depth < SNS_DEPTH_MAX ? parseEvents(outer.data.Message, depth + 1) : 'is wrapped too often';
  }
  if (trial.safeParse(value).success) return [];
  const parsed = notification.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return `is no notification of an object store: ${issue?.path.join('.') || 'the message'}: ${issue?.message}`;
  }
  const events: ObjectEvent[] = [];
  for (const { eventName, s3 } of parsed.data.Records) {
    if (!/^(s3:)?(Object|LifecycleExpiration)/.test(eventName)) continue;
    const key = decodeKey(s3.object.key);
    if (key === undefined) return `has a key that is not encoded right: ${JSON.stringify(s3.object.key)}`;
    events.push({ bucket: s3.bucket.name, key });
  }
  return events;
}

function decodeKey(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
