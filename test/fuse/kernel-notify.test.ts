import t from 'tap';
import type { NodeId } from '../../lib/base/brand.ts';
import { KernelNotify, NOTIFICATIONS_MAX } from '../../lib/fuse/kernel-notify.ts';
import { FakeChannel } from './fake-kernel.ts';

const node = 7n as NodeId;

const NAME = Buffer.from('name');

function notify(): { channel: FakeChannel; kernel: KernelNotify; reached: string[] } {
  const channel = new FakeChannel();
  const reached: string[] = [];
  const kernel = new KernelNotify({ channel, limitReached: (limit) => void reached.push(limit) });
  return { channel, kernel, reached };
}

t.test('notification writes one at a time, in order', async (t) => {
  const { channel, kernel } = notify();
  const first = kernel.invalidateEntry(node, NAME);
  const second = kernel.invalidateEntry(node, Buffer.from('other'));
  t.equal(channel.notifications.length, 1);
  const entry = Buffer.from(channel.notifications[0]?.message ?? []);
  t.same([entry.readInt32LE(4), entry.readBigUInt64LE(8), entry.readBigUInt64LE(16)], [3, 0n, 7n]);
  t.same([entry.readUInt32LE(24), entry.readUInt32LE(28)], [4, 1], 'the entry expires');
  t.equal(entry.toString('utf8', 32), 'name\0');
  channel.notifications[0]?.done(null);
  await first;
  t.equal(channel.notifications.length, 2);
  channel.notifications[1]?.done(null);
  await second;
});

t.test('notification of all entries overtakes one that is stuck', async (t) => {
  const { channel, kernel } = notify();
  const stuck = kernel.invalidateEntry(node, NAME);
  t.equal(kernel.invalidateAllEntries(), true);
  t.equal(channel.sent[0] && Buffer.from(channel.sent[0]).readInt32LE(4), 8);
  channel.notifications[0]?.done(null);
  await stuck;
  channel.refuse = 22;
  t.equal(kernel.invalidateAllEntries(), false, 'an older kernel refuses');
});

t.test('notification of attributes overtakes one that is stuck, and leaves pages alone', async (t) => {
  const { channel, kernel } = notify();
  const stuck = kernel.invalidateEntry(node, NAME);
  t.equal(kernel.invalidateAttributes(node), true);
  const sent = Buffer.from(channel.sent[0] ?? []);
  t.same([sent.length, sent.readUInt32LE(0), sent.readInt32LE(4)], [40, 40, 2]);
  t.same([sent.readBigUInt64LE(16), sent.readBigInt64LE(24)], [7n, -1n]);
  channel.refuse = 2;
  t.equal(kernel.invalidateAttributes(node), true, 'the kernel does not know the node');
  channel.notifications[0]?.done(null);
  await stuck;
});

t.test('notification about what the kernel does not hold succeeds', async (t) => {
  const { channel, kernel } = notify();
  const gone = kernel.invalidateEntry(node, NAME);
  channel.notifications[0]?.done(Object.assign(new Error('ENOENT'), { errno: -2 }));
  await gone;
  const refused = kernel.invalidateEntry(node, NAME);
  channel.notifications[1]?.done(Object.assign(new Error('EINVAL'), { errno: -22 }));
  await t.rejects(refused, { code: 'notification' });
});

t.test('notification queue has a limit, and ends with the mount', async (t) => {
  const { channel, kernel, reached } = notify();
  const waiting = Array.from({ length: NOTIFICATIONS_MAX + 1 }, () => kernel.invalidateEntry(node, NAME));
  await t.rejects(kernel.invalidateEntry(node, NAME), { code: 'notification' });
  t.same(reached, ['fuse_notifications']);
  kernel.end();
  channel.notifications[0]?.done(null);
  await Promise.all(waiting);
  await kernel.invalidateEntry(node, NAME);
  t.equal(channel.notifications.length, 1, 'nothing is written after the end');
  await t.rejects(notify().kernel.invalidateEntry(node, Buffer.alloc(256)), { code: 'notification' });
});
