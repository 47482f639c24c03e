# SIGKILL to the command in the foreground ends the machine; run-cases.sh sees to it that nothing is left.
start wait
await "wait: up"
kill -9 "$vm"
ended
[ $? = 137 ] || fail "the command was not killed"
