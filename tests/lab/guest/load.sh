#!/bin/sh
# Keeps the disk busy until it is told `enough`: four writers over slots of their own, and a reader past the page cache.
#
# Then every slot must hold the last chunk that was written there and synced, and the kernel's log no error.
slots=16 size=65536 writers=4

stty -echo
mount -t ext4 /dev/vda /mnt || exit 1

writer() { # NUMBER
    chunk=0
    while [ ! -e /run/enough ]; do
        yes "writer $1 chunk $chunk" | head -c $size |
            dd of="/mnt/w$1" bs=$size seek=$((chunk % slots)) iflag=fullblock conv=notrunc,fsync 2>"/run/dd$1" || {
            echo "load: FAILED writer $1: $(cat "/run/dd$1")"
            return
        }
        chunk=$((chunk + 1))
    done
    echo $chunk >"/run/chunks$1"
}

reader() {
    while [ ! -e /run/enough ]; do
        echo 3 >/proc/sys/vm/drop_caches
        (cd /mnt && sha256sum -c -s SHA256SUMS) || echo "load: FAILED reader: another checksum"
    done
}

expected() { # NUMBER CHUNKS
    slot=0
    while [ $slot -lt $slots ] && [ $slot -lt "$2" ]; do
        yes "writer $1 chunk $(((($2 - 1 - slot) / slots) * slots + slot))" | head -c $size
        slot=$((slot + 1))
    done
}

running=
for number in $(seq $writers); do writer "$number" & running="$running $!"; done
reader & running="$running $!"
echo "load: running"
while read -r word; do [ "$word" != enough ] || break; done
: >/run/enough
# shellcheck disable=SC2086 # one word a pid
wait $running
sync
echo 3 >/proc/sys/vm/drop_caches
for number in $(seq $writers); do
    chunks=$(cat "/run/chunks$number") || continue
    expected "$number" "$chunks" | cmp - "/mnt/w$number" && echo "load: writer $number whole after $chunks chunks"
done
dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|blk_update_request|timed out' | sed 's/^/load: FAILED kernel: /'
umount /mnt && echo "load: end"
