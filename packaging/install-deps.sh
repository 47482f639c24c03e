#!/bin/bash
# Makes sure that the Debian packages a make target needs are on this machine.
#
# Called by the Makefile as `install-deps.sh GROUP…`; silent and without network when nothing is missing.
# As root on Debian it installs; for anyone else it names the packages and fails, and changes nothing.
# Not here on purpose: the Rust toolchain (rustup's business) and cargo's own
# add-ons, which `make lint` and `make test` deal with where they use them.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

# group   package           command, or a file, that proves it   why
table='
build     gcc               gcc                                  links our binaries
build     libc6-dev         /usr/include/stdlib.h                static libc: helpers run in an empty root, where no loader is
guest     busybox-static    /usr/share/doc/busybox-static        user space of the guest and of the lab
guest     cpio              cpio                                 packs initramfs images
guest     lz4               lz4                                  unpacks the ELF kernel from the bzImage
guest     xz-utils          xz                                   unpacks modules that come compressed
guest     e2fsprogs         mke2fs                               makes the ext4 demo disk, and checks it afterwards
guest     mmdebstrap        mmdebstrap                           a Debian userland for tests, as an image
guest     util-linux        flock                                one fetch of the kernel at a time
lab       qemu-system-x86   qemu-system-x86_64                   the lab: real KVM semantics under an emulated SVM; interop peer
test      fio               fio                                  I/O load
test      gdb               gdb                                  talks to our gdb process in the tests
test      libnbd-bin        nbdcopy                              talks to qemu-storage-daemon and to our NBD server in the tests
test      nbdkit            nbdkit                               an NBD server to compare with ours
test      openssl           openssl                              makes certificates for the tests of TLS
test      qemu-utils        qemu-img                             images, and a client and server of NBD, to compare with ours
test      strace            strace                               looks at helpers from outside
fuzz      g++               g++                                  compiles libFuzzer
lint      shellcheck        shellcheck                           reads our shell scripts
'

die() { echo "install-deps: $*" >&2; exit 1; }

present() { # PROOF
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing() { # GROUP… → the packages that are not there, one a line
    local wanted=" $* " group package proof _
    while read -r group package proof _; do
        [ -n "$group" ] || continue
        [[ $wanted == *" $group "* ]] || continue
        present "$proof" || echo "$package"
    done <<<"$table"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >&2; }

install() { # PACKAGE…
    echo "install-deps: installing $*" >&2
    # A stale package list names versions the mirror no longer has: refresh it once, only when that happens.
    apt install -y --no-install-recommends "$@" 2>/dev/null && return
    apt update || die "apt-get update failed"
    apt install -y --no-install-recommends "$@" || die "apt-get could not install: $*"
}

groups=$(awk 'NF { print $1 }' <<<"$table" | uniq | paste -sd ' ')
[ $# -gt 0 ] || die "which group? $groups"
for group in "$@"; do
    grep -q "^$group " <<<"$table" || die "no group called '$group'; there are $groups"
done

mapfile -t packages < <(missing "$@" | sort -u)
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install "${packages[@]}"
else
    die "missing here: ${packages[*]}; as root: apt-get install ${packages[*]}"
fi
mapfile -t packages < <(missing "$@")
[ ${#packages[@]} -eq 0 ] || die "still missing after the installation: ${packages[*]}"
