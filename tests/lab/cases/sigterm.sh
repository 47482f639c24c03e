# SIGTERM to the command is the power button too.
start wait
await "wait: up"
kill -TERM "$vm"
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "power button"
