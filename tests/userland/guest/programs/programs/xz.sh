#!/bin/bash
# A round trip at two presets, with the checks xz keeps, and a file that the host compressed.
seq 1 20000 >text
head -c 100000 /dev/urandom >noise
for file in text noise; do
    for preset in 0 4; do
        xz -$preset -k -c --check=sha256 $file >$file.xz && xz -t $file.xz && xz -dc $file.xz | cmp - $file && echo "$file $preset"
    done
done
xz -1 -c --lzma2=dict=64KiB text | xz -d | sha256sum
xz -dc "$here/host.xz" | sha256sum
head -c 3000 text.xz | xz -dc >/dev/null 2>cut; echo "cut short: $?"; cat cut
