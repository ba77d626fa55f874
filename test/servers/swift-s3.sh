#!/bin/bash
# One-node OpenStack Swift with s3api and tempauth on loopback, as root, without systemd: up in 7 s.
# Needs Debian's swift-proxy swift-account swift-container swift-object memcached curl.
# Usage: swift-s3.sh up|down
# Environment: SWIFT_DIR (everything lives there; `down` removes it), SWIFT_PORT (8085; the next four ports are taken too).
# Endpoint http://127.0.0.1:$SWIFT_PORT, path style, access key test:tester, secret key testing.
# Known: conditional puts answer 501, batch delete wants Content-MD5, conditions on completion are ignored, no tagging.
set -euo pipefail
ACT=${1:-up}; D=${SWIFT_DIR:-${TMPDIR:-/tmp}/perigee-swift}; PORT=${SWIFT_PORT:-8085}
if [ "$ACT" = down ]; then
  # Each server leads a session of its own; what it wrote is thrown away, so it need not end in order.
  for f in "$D"/*.pid; do
    [ -f "$f" ] || continue
    q=$(cat "$f"); grep -qsF "$D/" "/proc/$q/cmdline" && kill -9 -- "-$q" 2>/dev/null || true
  done
  rm -rf "$D"; exit 0
fi
SWIFT_DIR=$D "$0" down
mkdir -p $D/etc $D/srv/d1 $D/run $D/cache; cd $D/etc
printf '[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n[swift-constraints]\nmax_file_size = 5368709122\n' > swift.conf
for r in account:$((PORT+1)) container:$((PORT+2)) object:$((PORT+3)); do n=${r%:*}; swift-ring-builder $n.builder create 6 1 0 >/dev/null; swift-ring-builder $n.builder add r1z1-127.0.0.1:${r#*:}/d1 1 >/dev/null; swift-ring-builder $n.builder rebalance >/dev/null || true
cat > $n.conf <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${r#*:}
user = root
swift_dir = $D/etc
devices = $D/srv
mount_check = false
workers = 1
log_level = ERROR
log_address = $D/nolog
recon_cache_path = $D/cache
[pipeline:main]
pipeline = $n-server
[app:$n-server]
use = egg:swift#$n
CONF
done
cat > proxy.conf <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $PORT
user = root
swift_dir = $D/etc
workers = 2
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin
storage_url_scheme = http
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
check_bucket_owner = false
allow_no_owner = true
dns_compliant_bucket_names = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((PORT+4))
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
CONF
start(){ setsid "${@:2}" > "$D/$1.log" 2>&1 < /dev/null & echo $! > "$D/$1.pid"; }
start memcached memcached -u root -l 127.0.0.1 -p $((PORT+4)) -m 64 -P "$D/memcached.pid"
for n in account container object; do start $n swift-$n-server "$D/etc/$n.conf"; done
start proxy swift-proxy-server "$D/etc/proxy.conf"
for i in $(seq 60); do curl -s http://127.0.0.1:$PORT/healthcheck | grep -q OK && exit 0; sleep 0.5; done
echo 'swift: the proxy did not answer; see its log' >&2; cat "$D/proxy.log" >&2; exit 1
