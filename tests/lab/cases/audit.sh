# A running machine is what its manifests say, seen by root; and who needs no guest memory has none.
new_disk
start wait --rng
await "wait: up"
bulkhead audit "$name" >audited 2>&1 || fail "audit: status $?; $(grep -iE 'deviat|weak|fail' audited | head -n 1)"
mapped() { processes | sed -n "s/.*\"role\":\"$1\".*\"guest_ram_kib\":\([0-9]*\).*/\1/p"; } # ROLE → KiB of guest memory
for role in supervisor launcher control block-layer; do
    [ "$(mapped $role)" = 0 ] || fail "$role has '$(mapped $role)' KiB of guest memory"
done
for role in core vhost-blk vhost-console; do
    [ "$(mapped $role)" -gt 0 ] || fail "$role is said to have no guest memory: this looks at the wrong thing"
done
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
