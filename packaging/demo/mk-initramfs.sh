#!/bin/bash
# Packs an initramfs of busybox, the kernel's modules and a few shell scripts.
#
# Called as `mk-initramfs.sh OUT PROFILE` after fetch-kernel.sh, by the demo and by the lab. Profiles:
#   guest   what runs under Bulkhead: guest/init, the demo's scripts and the tests' (tests/lab/guest/*.sh) in /scripts
#   lab     the machine around it, where KVM is real: tests/lab/init
# Needs no root (owners are written as 0:0) and gives the same bytes for the same input. Not compressed: under an
# emulated CPU unpacking costs more than loading.
set -euo pipefail

die() { echo "mk-initramfs: $*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: mk-initramfs.sh OUT guest|lab"
out=$1 profile=$2
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$demo/../.." && pwd)
modules=$root/target/guest/modules

case $profile in
    guest) init=$demo/guest/init scripts=("$demo"/guest/*.sh "$root"/tests/lab/guest/*.sh) ;;
    lab) init=$root/tests/lab/init scripts=() ;;
    *) die "no profile called '$profile'; there are guest, lab" ;;
esac
[ -s "$modules/$profile.order" ] || die "$modules/$profile.order is missing: run packaging/fetch-kernel.sh"
busybox=$(command -v busybox) || die "no busybox here: run packaging/install-deps.sh guest"
if ldd "$busybox" 2>/dev/null | grep -q '=>'; then die "$busybox is not static: install busybox-static"; fi

work=$(mktemp -d "$(dirname "$out")/.initramfs.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree"/{bin,dev,etc,lib/modules,mnt,proc,root,run,scripts,sys,tmp}
ln -s bin "$tree/sbin"
cp "$busybox" "$tree/bin/busybox"
busybox --list | while read -r applet; do ln -s busybox "$tree/bin/$applet" 2>/dev/null || true; done
while read -r module; do cp "$modules/$module" "$tree/lib/modules/"; done <"$modules/$profile.order"
cp "$modules/$profile.order" "$tree/lib/modules/order"
install -m 755 "$init" "$tree/init"
for script in "${scripts[@]}"; do
    [ -e "$script" ] || continue
    install -m 755 "$script" "$tree/scripts/$(basename "$script" .sh)"
done

find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . -print0 | LC_ALL=C sort -z | cpio --null -o -H newc -R 0:0 --reproducible --quiet) >"$work/cpio"
mv "$work/cpio" "$out"
