# The bzImage as Debian ships it, one vCPU: kernel, processors, disk and entropy are what was asked for.
kernel=/lab/guest/vmlinuz
new_disk
boot report --cpus 1 --rng || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "report: kernel $(cat /lab/guest/release)"
said "report: cpus 1"
said "report: disk vda 49152 sectors ro=0 serial=lab"
said "report: entropy 16"
said "report: end"
no_trouble
