#!/bin/sh
# Writes to the disk, then says the device's status (virtio 1.2, 2.1: 0x40 is NEEDS_RESET) at every word, until `enough`.
stty -echo
mount -t ext4 /dev/vda /mnt || exit 1
(cd /mnt && sha256sum -c -s SHA256SUMS && seq 1 200000 >numbers && sha256sum numbers >numbers.sha256) || exit 1
umount /mnt && echo "status: written"
while read -r word; do
    [ "$word" != enough ] || break
    echo "status: $word $(cat /sys/block/vda/device/status)"
done
