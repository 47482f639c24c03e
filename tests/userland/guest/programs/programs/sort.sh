#!/bin/bash
# Sorting, with the memory it has and without; and the tools beside it.
seq 1 50000 | awk '{ print ($1 * 7919) % 50021 }' >numbers
sort -n numbers | sha256sum
sort -n numbers | cmp - <(seq 1 50020 | grep -vxFf <(sort numbers | comm -13 - <(seq 1 50020 | sort))) && echo in order
sort -S 1M -T . numbers | sha256sum
sort --parallel=4 -rn numbers | head -n 3
printf '%s\n' v1.10 v1.9 v1.2 | sort -V | paste -sd ' '
printf '%s\n' b:2 a:10 c:1 a:9 | sort -t: -k1,1 -k2,2n | paste -sd ' '
sort -u <(cat numbers numbers) | wc -l
