# A detached machine goes on without its command, is listed, shows its console to whoever attaches, and is killed by name.
boot wait --detach || fail "bulkhead run --detach: status $?; $(tail -n 1 said)"
tries=0
until bulkhead ps "$name" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "ps does not know it"
    usleep 50000
done
bulkhead console "$name" </dev/null >seen 2>&1 &
viewer=$!
tries=0
until grep -q "wait: up" seen; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "its console does not show it; $(tail -n 1 seen)"
    usleep 50000
done
bulkhead kill "$name" || fail "kill: status $?"
wait $viewer
if bulkhead ps --json | grep -q "\"$name\""; then fail "ps still lists it"; fi
