#!/bin/sh
# One boot of the demo: a shell in the guest on a terminal, else the scripted session with its kills.
#
# Runs in a folder with bin/, vmlinux, initramfs, release, roles.sh and out/disk.img. Called by run.sh. The scripted
# session kills vhost-blk, block-layer and both while the guest writes, and succeeds only if the guest noticed nothing. It
# leaves the number of chunks written in out/chunks.
rounds=3

PATH=$PWD/bin:$PATH
append='console=hvc0 quiet panic=-1 no_timer_check 8250.nr_uarts=1'
name=demo-$$

fail() { echo "session: FAILED: $*" >&2; exit 1; }
# shellcheck source=roles.sh
. ./roles.sh

boot() { # SCRIPT
    exec bulkhead run --name "$name" --kernel vmlinux --initrd initramfs --memory 512M --rng --console stdio \
        --disk path=out/disk.img,format=raw,id=d0,serial=demo --append "$append bulkhead.script=$1"
}

[ -t 0 ] && [ -t 1 ] && boot shell

work=$(mktemp -d)
vm=
finish() {
    # shellcheck disable=SC2317 # called by the trap
    { [ -z "$vm" ] || kill "$vm" 2>/dev/null; rm -rf "$work"; }
}
trap finish EXIT
trap 'exit 1' INT TERM
mkfifo "$work/in" "$work/out"
exec 3<>"$work/in"
(boot demo) <"$work/in" >"$work/out" 3>&- &
vm=$!

said_kernel='' said_file='' chunks='' done=''
while IFS= read -r line; do
    line=$(echo "$line" | tr -d '\r')
    echo "guest: $line"
    case $line in
        'demo: kernel '*) said_kernel=${line#demo: kernel } ;;
        'demo: made-beforehand '*) said_file=${line##* } ;;
        'demo: writing')
            kill_disk_processes $rounds
            bulkhead ps "$name" || fail "bulkhead ps failed"
            echo enough >&3
            ;;
        'demo: written '*) chunks=${line#demo: written } chunks=${chunks% *} ;;
        'demo: FAILED '*) fail "the guest says: ${line#demo: FAILED }" ;;
        'demo: done') done=yes ;;
    esac
done <"$work/out"
wait "$vm" || fail "bulkhead run exited with $?"
vm=

[ "$said_kernel" = "$(cat release)" ] || fail "the guest runs '$said_kernel', not '$(cat release)'"
[ "$said_file" = "$(cat disk.sha256)" ] || fail "the guest read another file than was made"
[ "$done" = yes ] || fail "the guest ended before it was done"
[ "$chunks" -gt 0 ] || fail "the guest wrote nothing"
echo "$chunks" >out/chunks
