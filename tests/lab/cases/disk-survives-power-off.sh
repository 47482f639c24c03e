# What one boot wrote is there in the next; the host's fsck looks at the disk as well.
new_disk
boot stamp || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "stamp: written"
boot stamped || fail "second boot: status $?; $(tail -n 1 said)"
said "stamped: as written"
