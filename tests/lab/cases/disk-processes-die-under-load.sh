# The guest writes and checks from five processes while vhost-blk, block-layer and both are killed: it sees latency only.
new_disk
start load --cpus 2
await "load: running"
kill_disk_processes 4
bulkhead ps "$name" || fail "bulkhead ps failed"
tell enough
await "load: end"
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
if grep "load: FAILED" console >failures; then fail "$(head -n 1 failures)"; fi
[ "$(grep -c 'whole after' console)" = 4 ] || fail "not all four writers found their chunks: $(tail -n 1 console)"
