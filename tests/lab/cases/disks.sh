# Two disks, one of them read-only: order, size, serial and protection are as asked.
cp /lab/disk.img second.img
new_disk
boot report --disk path=second.img,format=raw,readonly,serial=second || fail "status $?; $(tail -n 1 said)"
said "report: disk vda 49152 sectors ro=0 serial=lab"
said "report: disk vdb 49152 sectors ro=1 serial=second"
cmp /lab/disk.img second.img || fail "a read-only disk was written to"
