#!/bin/bash
# Fetches Debian's current cloud kernel and lays it out for the guest and for the lab; nothing is installed.
#
# Called as `fetch-kernel.sh [--refresh]` by the Makefile and by everything that boots a guest. Leaves in target/guest:
#   vmlinuz        the bzImage as Debian ships it
#   vmlinux        the same kernel as an ELF with a PVH entry, taken out of the bzImage's LZ4 payload
#   release        what `uname -r` says in it
#   modules/*.ko   the modules below and what they depend on; modules/{guest,lab}.order say which, in loading order
# Cached: when it is all there, nothing is looked at and the network is not touched (--refresh asks Debian again). A new
# tree is made aside and renamed into place, so that a reader never sees half of one. Run by two at once, one waits.
# Not here on purpose: signature checks (apt does them), initramfs images (demo/mk-initramfs.sh).
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
guest=$root/target/guest
meta=linux-image-cloud-amd64

# Debian's cloud kernel has ext4, crc32c and the random core built in; these it has as modules.
# button and evdev carry the power button to the guest's acpid.
declare -A modules=(
    [guest]='virtio_pci virtio_blk virtio_console virtio-rng button evdev'
    # virtio disks bring the lab its payload and take its results out; loop is for tests that want a block device.
    [lab]='kvm-amd virtio_pci virtio_blk loop'
)

die() { echo "fetch-kernel: $*" >&2; exit 1; }

package_name() { # → the versioned package behind Debian's metapackage
    apt-cache depends --important "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n1
}

# As root, apt would drop to a user of its own that can't write here; the archive's signature is checked all the same.
apt() { apt-get -qq -o APT::Sandbox::User=root "$@"; }

freshen() { # package lists, when they are older than a day: an old one names an old kernel, or none that is still there
    [ "$(id -u)" = 0 ] || return 0
    [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Release' -mtime -1 2>/dev/null)" ] || return 0
    apt update >&2 || echo "fetch-kernel: apt-get update failed; going on with the lists there are" >&2
}

download() { # INTO → the .deb there
    local package
    freshen
    package=$(package_name)
    [ -n "$package" ] || die "apt knows no $meta: no package lists (as root: apt-get update), or not Debian amd64"
    (cd "$1" && apt download "$package" >&2) || die "apt-get download $package failed; as root: apt-get update"
    echo "$1"/linux-image-*.deb
}

word() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; } # FILE OFFSET SIZE → little-endian number

# Linux boot protocol, section "The Real-Mode Kernel Header": setup_sects at 0x1f1, payload_offset at 0x248 (counted
# from the protected-mode code), payload_length at 0x24c. The payload's last 4 bytes are its unpacked size.
unpack_elf() { # BZIMAGE ELF
    local start length
    [ "$(word "$1" $((0x202)) 2)" -ge $((0x208)) ] || die "$1: boot protocol older than 2.08, no payload fields"
    start=$((($(word "$1" $((0x1f1)) 1) + 1) * 512 + $(word "$1" $((0x248)) 4)))
    length=$(($(word "$1" $((0x24c)) 4) - 4))
    # head closes the pipe early: that is no error of tail's.
    { tail -c +$((start + 1)) "$1" || true; } 2>/dev/null | head -c "$length" | lz4 -dcq - >"$2" ||
        die "$1: the payload is not LZ4"
    [ "$(head -c 4 "$2" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || die "$1: the payload is no ELF file"
}

# modules.dep has one line a module, "path: path…", with everything it needs, in no order that one may rely on.
order() { # MODULES_DEP NAME… → paths, each after what it needs
    local dep=$1; shift
    declare -A seen=()
    visit() { # PATH
        [ -z "${seen[$1]:-}" ] || return 0
        seen[$1]=1
        local needed
        # shellcheck disable=SC2013 # words, not lines
        for needed in $(sed -n "s|^$1: *||p" "$dep"); do visit "$needed"; done
        echo "$1"
    }
    local name path
    for name in "$@"; do
        path=$(sed -n "s|^\([^:]*/${name//[-_]/[-_]}\.ko\):.*|\1|p" "$dep")
        [ -n "$path" ] || die "this kernel has no module $name"
        visit "$path"
    done
}

lay_out() { # UNPACKED_PACKAGE NEW_TREE
    local release from kind path
    release=$(basename "$1"/lib/modules/*)
    from=$1/lib/modules/$release
    mkdir -p "$2/modules"
    cp "$1/boot/vmlinuz-$release" "$2/vmlinuz"
    unpack_elf "$2/vmlinuz" "$2/vmlinux"
    echo "$release" >"$2/release"
    find "$from" -name '*.ko.xz' -exec xz -d {} +
    busybox depmod -b "$1" "$release"
    for kind in guest lab; do
        # shellcheck disable=SC2086 # one word a module
        order "$from/modules.dep" ${modules[$kind]} >"$2/paths"
        while read -r path; do
            cp "$from/$path" "$2/modules/"
            basename "$path"
        done <"$2/paths" >"$2/modules/$kind.order"
    done
    rm "$2/paths"
}

complete() { [ -s "$guest/modules/lab.order" ] && [ -s "$guest/vmlinux" ] && [ -s "$guest/vmlinuz" ]; }

[ $# -eq 0 ] || [ "$*" = --refresh ] || die "unknown argument '$*'; there is --refresh"
if [ $# -eq 0 ] && complete; then exit 0; fi
mkdir -p "$root/target"
exec 9>"$root/target/.guest.lock"
flock 9
if [ $# -eq 0 ] && complete; then exit 0; fi

work=$(mktemp -d "$root/target/.guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
deb=$(download "$work")
echo "fetch-kernel: unpacking $(basename "$deb")" >&2
dpkg-deb -x "$deb" "$work/package"
lay_out "$work/package" "$work/tree"
chmod 755 "$work/tree"
if [ -e "$guest" ]; then mv "$guest" "$work/old"; fi
mv "$work/tree" "$guest"
