#!/bin/bash
# Makes the demo's disk: an ext4 image with a file of random bytes and the checksum to hold it against.
#
# Called as `mk-disk.sh OUT [MIB]` by the demo and the lab's cases. Leaves OUT and OUT.sha256, the file's checksum as the
# host knows it. Nothing is mounted, so no root is needed. Laid out in full at once (no lazy initialisation): the first
# mount in the guest would otherwise write for minutes in the background.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

[ $# -ge 1 ] || { echo "mk-disk: usage: mk-disk.sh OUT [MIB]" >&2; exit 1; }
out=$1 size=${2:-64}
work=$(mktemp -d "$(dirname "$out")/.disk.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/tree"
chmod 755 "$work/tree"
head -c $((4 << 20)) /dev/urandom >"$work/tree/made-beforehand"
(cd "$work/tree" && sha256sum made-beforehand >SHA256SUMS)
truncate -s "${size}M" "$work/image"
mke2fs -q -t ext4 -L bulkhead-demo -E lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 -d "$work/tree" "$work/image"
cut -d' ' -f1 "$work/tree/SHA256SUMS" >"$out.sha256"
mv "$work/image" "$out"
