#!/bin/sh
# Prints numbered lines, each with fresh entropy from the device, until it is told `enough`.
stty -echo
(while read -r word; do [ "$word" != enough ] || : >/run/enough; done) </dev/tty &
number=0
while [ ! -e /run/enough ]; do
    number=$((number + 1))
    entropy=$(head -c 4 /dev/hwrng | od -An -tx1 | tr -d ' ')
    echo "chatter: $number $entropy"
    usleep 20000
done
echo "chatter: last $number"
