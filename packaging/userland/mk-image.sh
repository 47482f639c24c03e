#!/bin/bash
# Makes a Debian 12 userland as an ext4 image, for guests that run programs people use.
#
# Called as `mk-image.sh` by the Makefile and by tests/userland. Leaves in target/userland:
#   debian.img   the root file system; root's password is "bulkhead"
#   recipe       what it was made of: this script and its pieces, as a checksum
# Cached by the recipe: nothing is looked at, and the network not touched, while that is the same. Beside target/guest,
# not in it: a refreshed kernel replaces that folder. An ordinary user needs subordinate ids (/etc/subuid) and uidmap.
# Not here on purpose: a kernel (fetch-kernel.sh), and what single tests run (that comes on a second disk).
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$(cd "$here/../.." && pwd)/target
out=$target/userland

packages=systemd-sysv,udev,python3,openssl,xz-utils,gcc,libc6-dev
size=800M
# The same every time: file times, and the file system's own random numbers.
export SOURCE_DATE_EPOCH=1735689600 E2FSPROGS_FAKE_TIME=1735689600
uuid=6b756c62-6561-4864-9464-656269616e31

die() { echo "userland: $*" >&2; exit 1; }

recipe() { cat "$here"/* | sha256sum; }
ready() { [ -s "$out/debian.img" ] && [ "$(cat "$out/recipe" 2>/dev/null)" = "$(recipe)" ]; }

bootstrap() { # → the root file system as a tar archive
    local excluded=(/usr/share/{man,doc,locale,info}/'*') options=()
    for path in "${excluded[@]}"; do options+=(--dpkgopt="path-exclude=$path"); done
    # Single quotes: these run in mmdebstrap's shell, which calls the tree $1.
    # shellcheck disable=SC2016
    mmdebstrap --quiet --variant=minbase --include="$packages" "${options[@]}" \
        --customize-hook='echo root:bulkhead | chpasswd -R "$1"' \
        --customize-hook='echo bulkhead >"$1/etc/hostname"' \
        --customize-hook='echo "/dev/vda / ext4 rw 0 1" >"$1/etc/fstab"' \
        --customize-hook="install -m 755 '$here/second-disk' \"\$1/usr/local/sbin/second-disk\"" \
        bookworm -
}

as_root() { # COMMAND…: as it is, or as the root of a user namespace, so that files get their owners
    if [ "$(id -u)" = 0 ]; then "$@"; else unshare --map-root-user --map-auto "$@"; fi
}

lay_out() { # TREE IMAGE, the tree as a tar archive on stdin
    # shellcheck disable=SC2016 # the inner shell's arguments
    as_root bash -euc '
        tar -x --numeric-owner -C "$1"
        # Laid out in full at once: the guest would otherwise write for minutes in the background.
        mke2fs -q -t ext4 -L debian -U "$3" -E "lazy_itable_init=0,lazy_journal_init=0,hash_seed=$3" -d "$1" "$2" "$4" >/dev/null
        rm -rf "$1"
    ' lay_out "$1" "$2" "$uuid" "$size"
}

if ready; then exit 0; fi
mkdir -p "$target"
exec 9>"$target/.userland.lock"
flock 9
if ready; then exit 0; fi
echo "userland: making a Debian 12 image (half a minute, some 100 MiB from Debian's mirror)" >&2
work=$(mktemp -d "$target/.userland.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
bootstrap | lay_out "$work/tree" "$work/debian.img" || die "the image could not be made"
recipe >"$work/recipe"
mkdir -p "$out"
rm -f "$out/recipe"
mv "$work/debian.img" "$work/recipe" "$out/"
