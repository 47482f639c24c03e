# A paused guest says nothing; resumed, it goes on where it was.
start wait
await "wait: up"
bulkhead events "$name" >events &
bulkhead pause "$name" || fail "pause: status $?"
tell one
sleep 1
if grep -q "heard one" console; then fail "a paused guest answered"; fi
bulkhead resume "$name" || fail "resume: status $?"
await "wait: heard one"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "wait: end"
grep -q paused events || fail "no event says that it was paused"
grep -q resumed events || fail "no event says that it went on"
