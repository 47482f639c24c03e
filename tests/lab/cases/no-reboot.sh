# With --no-reboot a reset from inside ends the machine instead.
new_disk
boot again --no-reboot || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "again: boot 1"
if grep -q "again: boot 2" console; then fail "it came up again"; fi
