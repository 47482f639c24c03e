# A paused guest says nothing; resumed, it goes on where it was.
start wait
await "wait: up"
bulkhead pause "$name" || fail "pause: status $?"
bulkhead ps "$name" | grep -qi paused || fail "ps does not say that it is paused"
tell one
sleep 1
if grep -q "heard one" console; then fail "a paused guest answered"; fi
bulkhead resume "$name" || fail "resume: status $?"
await "wait: heard one"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "wait: end"
