#!/bin/bash
# Runs the guest's programs on this host's own CPU, in the same userland, and writes their output to answers/.
#
# Called by hand, as root, after a change in guest/: `git diff` then shows what changed, and the vectors that standards
# publish are there to be recognised. The tests hold the guest's output against these files.
# Not here on purpose: what depends on Debian's current packages (programs/apt.sh), which the tests read from the image.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=$here/../../target/userland/debian.img
work=$(mktemp -d)
trap 'umount "$work/tree/proc" 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/tree"
debugfs -R "rdump / $work/tree" "$image" 2>/dev/null
cp -r "$here/guest/programs" "$work/tree/mnt/disk"
seq 30000 | xz -c >"$work/tree/mnt/disk/host.xz"
mount -t proc proc "$work/tree/proc"
for device in null zero urandom; do rm -f "$work/tree/dev/$device"; cp -a "/dev/$device" "$work/tree/dev/"; done
ln -sfn /proc/self/fd "$work/tree/dev/fd"
chroot "$work/tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 bash -c 'cd /mnt/disk && ./run-me'
for exit in "$work"/tree/mnt/disk/out/*.exit; do
    name=$(basename "$exit" .exit)
    if [ "$(cat "$exit")" != 0 ]; then echo "$name: exit $(cat "$exit"): $(cat "${exit%.exit}.err")" >&2; fi
    if [ "$name" != apt ]; then cp "${exit%.exit}" "$here/answers/$name"; fi
done
