# The console's and the entropy's process are killed while both are in use: no line is lost, entropy keeps coming.
start chatter --rng
await "chatter: 5 "
for round in 1 2 3 4 5; do
    kill_and_wait vhost-console
    kill_and_wait vhost-rng
    await "chatter: $((round * 5)) "
done
tell enough
await "chatter: last"
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
last=$(sed -n 's/.*chatter: last \([0-9]*\).*/\1/p' console)
number=1
while [ $number -le "$last" ]; do
    grep -qE "chatter: $number [0-9a-f]{8}" console || fail "line $number of $last is lost"
    number=$((number + 1))
done
