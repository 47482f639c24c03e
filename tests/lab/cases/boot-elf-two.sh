# The ELF by its PVH entry, two vCPUs: kernel, processors, disk and entropy are what was asked for.
kernel=/lab/guest/vmlinux
new_disk
boot report --cpus 2 --rng || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "report: kernel $(cat /lab/guest/release)"
said "report: cpus 2"
said "report: disk vda 49152 sectors ro=0 serial=lab"
said "report: entropy 16"
said "report: end"
no_trouble
