# A paused guest says nothing; resumed, it goes on where it was.
start wait
await "wait: up"
bulkhead events "$name" >happened &
sleep 3 # a follower hears what happens after it has begun to listen
bulkhead pause "$name" || fail "pause: status $?"
tell one
sleep 1
if grep -q "heard one" console; then fail "a paused guest answered"; fi
bulkhead resume "$name" || fail "resume: status $?"
await "wait: heard one"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "wait: end"
grep -q paused happened || fail "no event says that it was paused"
grep -q resumed happened || fail "no event says that it went on"
