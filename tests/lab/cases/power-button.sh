# `bulkhead shutdown` presses the power button; the guest hears it and powers itself off.
start wait
await "wait: up"
bulkhead shutdown "$name" || fail "shutdown: status $?"
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "power button"
