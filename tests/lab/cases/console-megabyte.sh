# 1 MiB of console output arrives whole.
boot megabyte || fail "bulkhead run: status $?; $(tail -n 1 said)"
sed -n '/begin/,$p' console | tail -n +2 | head -c 1048576 | sha256sum >arrived
seq -w 1 3000000 | head -c 1048576 | sha256sum >printed
cmp arrived printed || fail "other bytes arrived: $(wc -c <console) in all"
sed -n '/begin/,$p' console | tail -n +2 | tail -c +1048577 | head -n 1 | grep -q '^end' || fail "the end is missing"
