#!/bin/sh
# The guest's half of the scripted session; session.sh on the other side of the console reads the `demo:` lines.
#
# Checks the file made beforehand, then writes numbered chunks, each synced, over and over the same slots of a file until
# it is told `enough`: a chunk that was lost, or an old one that landed late, shows in the checksum. The host kills the
# disk's processes meanwhile. Then everything is read back past the page cache, and the kernel's log must be clean.
slots=64 size=65536 # session.sh and run.sh compute the same file from these

fail() { echo "demo: FAILED $*"; exit 1; }

stty -echo
echo "demo: kernel $(uname -r)"
[ "$(head -c 16 /dev/hwrng | wc -c)" = 16 ] || fail "no entropy from /dev/hwrng"
mount -t ext4 /dev/vda /mnt || fail "/dev/vda does not mount"
cd /mnt || exit
sha256sum -c -s SHA256SUMS || fail "the file made beforehand has another checksum"
echo "demo: made-beforehand $(sha256sum made-beforehand | cut -d' ' -f1)"

exec 3<&0
# In a folder of its own, or it would hold the disk's file system.
(cd / && while read -r word <&3; do [ "$word" != enough ] || : >/run/enough; done) &
echo "demo: writing"
chunk=0
while [ ! -e /run/enough ]; do
    yes "chunk $chunk" | head -c $size |
        dd of=written bs=$size seek=$((chunk % slots)) iflag=fullblock conv=notrunc,fsync 2>/run/dd ||
        fail "chunk $chunk: $(cat /run/dd)"
    chunk=$((chunk + 1))
done
sync
echo 3 >/proc/sys/vm/drop_caches
echo "demo: written $chunk $(sha256sum written | cut -d' ' -f1)"
sha256sum -c -s SHA256SUMS || fail "the file made beforehand changed"
if dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|blk_update_request|virtio.*reset' >/run/errors; then
    fail "$(head -n 1 /run/errors)"
fi
cd /
umount /mnt || fail "/mnt does not unmount"
echo "demo: done"
