#!/bin/bash
# One-node Ceph with its S3 gateway on loopback, as root, without systemd: up in about 16 s.
# Needs Debian's ceph-mon ceph-mgr ceph-osd radosgw bc uuid-runtime curl.
# Usage: ceph-rgw.sh up|down [memstore|bluestore] [size in bytes]
# Environment: CEPH_DIR (everything lives there; `down` removes it), RGW_PORT (7480), CEPH_MON_PORT (3300; the next port is taken too).
# Two of them run side by side with different directories and ports.
# Endpoint http://127.0.0.1:$RGW_PORT, path style, access key test, secret key testtest.
# Known of Ceph 16.2: If-Match on PUT works only with the unquoted tag, conditions on completion are ignored and completion
# answers an empty tag, If-None-Match:* on PUT is atomic, x-amz-copy-source-if-match and conditional DELETE are not enforced,
# the checksum headers of newer S3 are ignored, Content-MD5 is checked, versioning works.
set -euo pipefail
ACT=${1:-up}; STORE=${2:-memstore}; SIZE=${3:-10737418240}
D=${CEPH_DIR:-${TMPDIR:-/tmp}/perigee-ceph}; PORT=${RGW_PORT:-7480}; MON=${CEPH_MON_PORT:-3300}; MON1=$((MON+1))
export CEPH_CONF=$D/ceph.conf
if [ "$ACT" = down ]; then
  # What the daemons wrote is thrown away, so they need not end in order.
  for f in "$D"/*.pid; do
    [ -f "$f" ] || continue
    q=$(cat "$f"); grep -qsF "$D/" "/proc/$q/cmdline" && kill -9 "$q" 2>/dev/null || true
  done
  rm -rf "$D"; exit 0
fi
CEPH_DIR=$D RGW_PORT=$PORT "$0" down
mkdir -p $D/{mon,osd,mgr,run,log,rgw}
FSID=$(uuidgen)
cat > $CEPH_CONF <<CONF
[global]
fsid = $FSID
mon initial members = a
mon host = [v2:127.0.0.1:$MON/0,v1:127.0.0.1:$MON1/0]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
osd failsafe full ratio = 0.999
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 1
mon osd full ratio = 0.99
mon osd nearfull ratio = 0.98
mon osd backfillfull ratio = 0.985
run dir = $D/run
log file = $D/log/\$name.log
admin socket = $D/run/\$name.asok
pid file = $D/\$name.pid
crash dir = $D/run
debug ms = 0
ms crc data = false
debug osd = 0
debug mon = 0
debug mgr = 0
debug bluestore = 0
debug rocksdb = 0
[mon.a]
mon data = $D/mon
mon addr = [v2:127.0.0.1:$MON/0,v1:127.0.0.1:$MON1/0]
[mgr.x]
mgr data = $D/mgr
[osd.0]
osd data = $D/osd
osd objectstore = $STORE
memstore device bytes = $SIZE
bluestore block size = $SIZE
bluestore block db create = false
bluestore block wal create = false
bdev enable discard = false
osd memory target = 2147483648
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$PORT tcp_nodelay=1
debug rgw = 0
rgw enable ops log = false
rgw max chunk size = 4194304
rgw put obj min window size = 67108864
rgw get obj window size = 67108864
rgw get obj max req size = 4194304
rgw enable usage log = false
rgw dns name = localhost
rgw thread pool size = 128
rgw relaxed s3 bucket names = true
rgw gc obj min wait = 10
CONF
T0=$(date +%s.%N); t(){ printf '%6.1fs %s\n' "$(echo "$(date +%s.%N)-$T0"|bc)" "$*"; }
monmaptool --create --fsid $FSID --addv a "[v2:127.0.0.1:$MON,v1:127.0.0.1:$MON1]" $D/monmap >/dev/null
ceph-mon --mkfs -i a --monmap $D/monmap >/dev/null 2>&1
ceph-mon -i a --pid-file $D/mon.a.pid; t mon started
ceph -s >/dev/null; t quorum
ceph-mgr -i x --pid-file $D/mgr.x.pid; t mgr started
OSDU=$(uuidgen); ceph osd new $OSDU >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid $OSDU >/dev/null 2>&1
ceph osd crush add-bucket default root >/dev/null 2>&1 || true
ceph osd crush add-bucket h0 host >/dev/null 2>&1; ceph osd crush move h0 root=default >/dev/null 2>&1
ceph osd crush add osd.0 1.0 host=h0 >/dev/null 2>&1
ceph-osd -i 0 --pid-file $D/osd.0.pid >/dev/null 2>&1; t osd started
for i in $(seq 60); do ceph osd stat 2>/dev/null | grep -q '1 up' && break; sleep 0.5; done; t osd up
radosgw -n client.rgw --pid-file $D/rgw.pid
for i in $(seq 240); do curl -s -o /dev/null http://127.0.0.1:$PORT/ && break; sleep 0.5; done; t rgw answering
radosgw-admin user create --uid=t --display-name=t --access-key=test --secret-key=testtest --max-buckets=0 >/dev/null 2>&1; t user created
ceph -s
