#!/bin/bash
# Boots the lab once and runs every case in it (cases/*.sh), then looks at the disks that guests wrote.
#
#     cases.sh [NAME…]    only these
#
# Called by .ci/test after the build. One line a case: `case NAME ok|FAILED|skipped …`. A disk that comes out is held
# against fsck on the host, as a case of its own (NAME.fsck). Logs of failed cases are in target/lab/logs.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$lab/../.." && pwd)
guest=$root/target/guest
out=$root/target/lab

if ! command -v qemu-system-x86_64 >/dev/null; then
    for file in "$lab"/cases/*.sh; do echo "case $(basename "$file" .sh) skipped no qemu-system-x86_64 here"; done
    exit 0
fi

work=$(mktemp -d "$root/target/.cases.XXXXXX")
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir "$work/cases"
if [ $# -eq 0 ]; then
    for file in "$lab"/cases/*.sh; do set -- "$@" "$(basename "$file" .sh)"; done
fi
for name in "$@"; do
    [ -e "$lab/cases/$name.sh" ] || { echo "cases: no case called '$name'" >&2; exit 1; }
    cp "$lab/cases/$name.sh" "$work/cases/"
done
"$root/packaging/demo/mk-initramfs.sh" "$work/initramfs" guest
"$root/packaging/demo/mk-disk.sh" "$work/disk.img" 24

pack_daemon() { # FOLDER: qemu-storage-daemon with its libraries, for a place that has none; empty if it is not here
    local program
    mkdir "$1"
    program=$(command -v qemu-storage-daemon) || return 0
    cp "$program" "$1"
    ldd "$program" | grep -oE '/[^ ]+' | xargs cp -L -t "$1"
}
pack_daemon "$work/foreign"

status=0
"$lab/run-lab.sh" --out "$out" --put "$root/target/dist/bin" --put "$work/cases" --put "$lab/boot.sh" \
    --put "$root/packaging/demo/roles.sh" --put "$work/initramfs" --put "$work/disk.img" --put "$work/foreign" \
    --put "$guest/vmlinux=guest/vmlinux" --put "$guest/vmlinuz=guest/vmlinuz" --put "$guest/release=guest/release" \
    "$lab/run-cases.sh" || status=$?

for image in "$out"/*.img; do
    [ -e "$image" ] || continue
    name=$(basename "$image" .img)
    if e2fsck -fn "$image" >"$work/fsck" 2>&1; then
        echo "case $name.fsck ok"
    else
        echo "case $name.fsck FAILED $(grep -vE '^Pass|^e2fsck' "$work/fsck" | head -n 1)"
        status=1
    fi
done
exit $status
