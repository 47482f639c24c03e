# The same past the host's page cache: O_DIRECT on a block device.
losetup -f >loop || skip "no loop device here"
disk=/lab/out/$case.img
cp /lab/disk.img "$disk"
losetup "$(cat loop)" "$disk" || skip "losetup refuses"
boot stamp --disk "path=$(cat loop),format=raw,cache=none" || { losetup -d "$(cat loop)"; fail "status $?; $(tail -n 1 said)"; }
sync
losetup -d "$(cat loop)"
said "stamp: written"
