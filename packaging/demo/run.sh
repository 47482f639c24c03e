#!/bin/bash
# `make run`: boots Debian's kernel under Bulkhead, by KVM or in software, as `--cpu auto` chooses.
#
# On a terminal a shell in the guest. Without one the scripted session (session.sh), and afterwards the disk is held
# against what the guest must have written, with the host's own tools. Needs target/dist/bin (make build).
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

demo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$demo/../.." && pwd)
guest=$root/target/guest
slots=64 size=65536 # as in guest/demo.sh

die() { echo "run: $*" >&2; exit 1; }

expected() { # CHUNKS → what the file must hold: in each slot the last chunk that went there
    local slot last
    for ((slot = 0; slot < slots && slot < $1; slot++)); do
        last=$(((($1 - 1 - slot) / slots) * slots + slot))
        { yes "chunk $last" || true; } 2>/dev/null | head -c $size
    done
}

verify() { # IMAGE CHUNKS
    e2fsck -fn "$1" >"$work/fsck" 2>&1 || { cat "$work/fsck" >&2; die "the disk is not clean"; }
    debugfs -R "dump /written $work/written" "$1" 2>/dev/null
    expected "$2" >"$work/expected"
    cmp "$work/expected" "$work/written" || die "the disk does not hold what the guest wrote"
    echo "run: the disk is clean; $2 chunks written under kills, $(stat -c %s "$work/written") bytes as they must be"
}

work=$(mktemp -d "$root/target/.demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/out"
"$demo/mk-initramfs.sh" "$work/initramfs" guest
"$demo/mk-disk.sh" "$work/disk"
mv "$work/disk" "$work/out/disk.img"
ln -s "$root/target/dist/bin" "$guest/vmlinux" "$guest/release" "$demo/roles.sh" "$work/"

(cd "$work" && "$demo/session.sh")
if [ -t 0 ] && [ -t 1 ]; then exit 0; fi
[ -s "$work/out/chunks" ] || die "the session left no count of chunks"
verify "$work/out/disk.img" "$(cat "$work/out/chunks")"
