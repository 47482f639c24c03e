#!/bin/bash
# Checksums, numbers, text, files; grep -P compiles its pattern to machine code at run time.
seq 1 100000 >lines
for sum in md5sum sha1sum sha224sum sha384sum sha512sum b2sum cksum sum; do $sum <lines; done
factor 18446744073709551557 1000000007000000063 340282366920938463463374607431768211455
base64 -w 0 <(seq 30) | md5sum; base64 -w 60 lines | base64 -d | cmp - lines && echo base64
od -An -tx1z <<<'a few bytes' ; printf '%d %x %s\n' "'A" 3735928559 end
tr a-z A-Z <<<hello; wc lines; cut -c2-4 lines | uniq -c | sort -rn | head -n 3
numfmt --to=iec 123456789; date -u -d @1234567890 +%FT%TZ; expr 6 \* 7; seq -s, 0 0.25 1
grep -cP '^(?=.*7)(?=.*3)(\d)(?:(?!\1)\d)+$' lines
sed -n '/99$/{s/9/nine-/g;p}' lines | head -n 3
awk '{ s += $1 * $1; x = x * 1.0000001 + sqrt($1) } END { printf "%d %.10g\n", s, x }' lines
dd if=lines bs=777 count=100 skip=3 status=none | md5sum
split -n 7 lines part. && cat part.* | cmp - lines && echo split
tar -cf - part.* | tar -tf - | wc -l; gzip -9c lines | gzip -dc | cmp - lines && echo gzip
find /usr/bin -maxdepth 1 -name '*sum' | sort | tail -n 3; stat -c '%s %F' lines; ln lines other && stat -c %h other
mkfifo pipe; (cat lines >pipe &); head -n 2 pipe
