import t from 'tap';
import type { NodeId } from '../../lib/base/brand.ts';
import { KernelNotify, NOTIFICATIONS_MAX } from '../../lib/fuse/kernel-notify.ts';
import { FakeChannel } from './fake-kernel.ts';

const node = 7n as NodeId;

function notify(epoch = true): { channel: FakeChannel; kernel: KernelNotify; reached: string[] } {
  const channel = new FakeChannel();
  const reached: string[] = [];
  const kernel = new KernelNotify({ channel, epoch, limitReached: (limit) => void reached.push(limit) });
  return { channel, kernel, reached };
}

t.test('notification writes one at a time, in order', async (t) => {
  const { channel, kernel } = notify();
  const first = kernel.invalidateNode(node);
  const second = kernel.invalidateEntry(node, Buffer.from('name'));
  t.equal(channel.notifications.length, 1);
  const inode = Buffer.from(channel.notifications[0]?.message ?? []);
  t.same([inode.length, inode.readUInt32LE(0), inode.readInt32LE(4)], [40, 40, 2]);
  t.same([inode.readBigUInt64LE(8), inode.readBigUInt64LE(16)], [0n, 7n]);
  channel.notifications[0]?.done(null);
  await first;
  t.equal(channel.notifications.length, 2);
  const entry = Buffer.from(channel.notifications[1]?.message ?? []);
  t.same([entry.readInt32LE(4), entry.readUInt32LE(24)], [3, 4]);
  t.equal(entry.toString('utf8', 32), 'name\0');
  channel.notifications[1]?.done(null);
  await second;
});

t.test('notification of all entries overtakes one that is stuck', async (t) => {
  const { channel, kernel } = notify();
  const stuck = kernel.invalidateEntry(node, Buffer.from('name'));
  t.equal(await kernel.invalidateAllEntries(), true);
  t.equal(channel.sent[0] && Buffer.from(channel.sent[0]).readInt32LE(4), 8);
  channel.notifications[0]?.done(null);
  await stuck;
  t.equal(await notify(false).kernel.invalidateAllEntries(), false, 'an older kernel cannot');
});

t.test('notification about what the kernel does not hold succeeds', async (t) => {
  const { channel, kernel } = notify();
  const gone = kernel.invalidateNode(node);
  channel.notifications[0]?.done(Object.assign(new Error('ENOENT'), { errno: -2 }));
  await gone;
  const refused = kernel.invalidateNode(node);
  channel.notifications[1]?.done(Object.assign(new Error('EINVAL'), { errno: -22 }));
  await t.rejects(refused, { code: 'notification' });
});

t.test('notification queue has a limit, and ends with the mount', async (t) => {
  const { channel, kernel, reached } = notify();
  const waiting = Array.from({ length: NOTIFICATIONS_MAX + 1 }, () => kernel.invalidateNode(node));
  await t.rejects(kernel.invalidateNode(node), { code: 'notification' });
  t.same(reached, ['fuse_notifications']);
  kernel.end();
  channel.notifications[0]?.done(null);
  await Promise.all(waiting);
  await kernel.invalidateNode(node);
  t.equal(channel.notifications.length, 1, 'nothing is written after the end');
  await t.rejects(notify().kernel.invalidateEntry(node, Buffer.alloc(256)), { code: 'notification' });
});
