import t from 'tap';
import { findMount, parseMountTable } from '../../lib/fuse/mount-table.ts';

const table = [
  '22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw',
  '39 22 0:41 / /mnt/with\\040blank\\011tab\\134slash rw,nosuid,nodev - fuse.perigee host:7070/a\\040b rw,user_id=0',
  '40 22 0:42 / /mnt/gr\\303\\274\\303\\237e ro - fuse.perigee x rw',
  '41 22 0:43 / /mnt/twice rw - tmpfs lower rw',
  '42 22 0:44 / /mnt/twice rw - fuse.perigee upper rw',
  'nonsense',
  '43 22 0:45 / /mnt/cut rw',
  '',
].join('\n');

t.test('mount table undoes octal escapes', async (t) => {
  const records = parseMountTable(table);
  t.same(records[1], {
    device: '0:41',
    mountpoint: '/mnt/with blank\ttab\\slash',
    type: 'fuse.perigee',
    source: 'host:7070/a b',
    readOnly: false,
  });
  t.match(records[2], { mountpoint: '/mnt/grüße', readOnly: true });
});

t.test('mount table finds the mount on top', async (t) => {
  const records = parseMountTable(table);
  t.equal(records.length, 5, 'lines that make no sense are left out');
  t.match(findMount(records, '/mnt/twice'), { source: 'upper' });
  t.equal(findMount(records, '/mnt'), undefined);
});
