# A running machine is what its manifests say, seen by root.
new_disk
start wait --rng
await "wait: up"
bulkhead audit "$name" >audited 2>&1 || fail "audit: status $?; $(grep -iE 'deviat|weak|fail' audited | head -n 1)"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
