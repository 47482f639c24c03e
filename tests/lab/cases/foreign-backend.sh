# Another program's backend, which keeps no in-flight table, serves the disk. When it dies, nobody guesses what it had
# done: the guest is told that the device needs a reset, and the user by an event.
[ -x /lab/foreign/qemu-storage-daemon ] || skip "no qemu-storage-daemon here"
disk=/lab/out/$case.img
cp /lab/disk.img "$disk"
# The lab has no C library: the program brings its own.
/lab/foreign/ld-linux-x86-64.so.2 --library-path /lab/foreign /lab/foreign/qemu-storage-daemon \
    --blockdev "driver=file,filename=$disk,node-name=d0" \
    --export "type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path=$PWD/blk,writable=on" >daemon 2>&1 &
daemon=$!
trap 'kill -9 $daemon 2>/dev/null' EXIT
tries=0
until [ -S blk ]; do
    kill -0 $daemon 2>/dev/null || fail "qemu-storage-daemon: $(tail -n 1 daemon)"
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "qemu-storage-daemon does not listen"
    usleep 50000
done
start status --disk "vhost-user=$PWD/blk,id=d0"
await "status: written"
tell before
await "status: before"
said "status: before 0x0000000f"
bulkhead events "$name" >happened &
sleep 3 # a follower hears what happens after it has begun to listen
kill -9 $daemon
tries=0
until grep -q degraded happened; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "no event says that the backend is gone: $(cat happened)"
    usleep 50000
done
grep -q needs-reset happened || fail "no event says that the guest was told: $(cat happened)"
tell after
await "status: after"
said "status: after 0x0000004f"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
