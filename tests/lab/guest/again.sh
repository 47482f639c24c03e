#!/bin/sh
# Counts its boots on the disk: the first one ends in a reset, the second in a power-off.
mount -t ext4 /dev/vda /mnt || exit 1
echo boot >>/mnt/boots
echo "again: boot $(wc -l </mnt/boots)"
boots=$(wc -l </mnt/boots)
umount /mnt
stty sane
[ "$boots" -gt 1 ] || reboot -f
