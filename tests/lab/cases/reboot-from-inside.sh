# A reset starts the machine again with the same disk; the power-off after it ends the command with 0.
new_disk
boot again || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "again: boot 1"
said "again: boot 2"
