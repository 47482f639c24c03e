#!/bin/sh
# Says what machine the guest finds itself in; each line is one fact for a case to check.
echo "report: kernel $(uname -r)"
echo "report: cpus $(nproc)"
echo "report: clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
for disk in /sys/block/vd*; do
    [ -e "$disk" ] || continue
    echo "report: disk ${disk##*/} $(cat "$disk/size") sectors ro=$(cat "$disk/ro") serial=$(cat "$disk/serial")"
done
[ -c /dev/hwrng ] && echo "report: entropy $(head -c 16 /dev/hwrng | wc -c)"
dmesg | grep -E 'I/O error|BUG:|timed out|probe.*failed' | sed 's/^/report: trouble /'
echo "report: end"
