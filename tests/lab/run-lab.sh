#!/bin/bash
# Boots the lab (Linux with real KVM semantics under QEMU's emulated SVM), runs one script in it, returns its status.
#
#     run-lab.sh [--put FILE[=NAME]]… [--out DIR] [--silence SECONDS] [--tty] SCRIPT
#
# SCRIPT (busybox sh) runs in /lab, as root, with the files of --put beside it (NAME may have folders; a folder is put
# whole; bin/ is in PATH). What it leaves in /lab/out is in DIR afterwards. With --tty the caller's terminal is the
# script's, else its output comes out here and its input is empty.
# Called by cases.sh, and by hand. A lab that gives no sign of life for a while (QEMU 7.2 has rare hangs
# of its own in emulated SVM) is ended and given one more try; that is said aloud. Status 125: the lab itself failed.
# Not here on purpose: more than one CPU in the lab (QEMU 7.2 can hang for ever with two), a network.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
guest=$root/target/guest

die() { echo "run-lab: $*" >&2; exit 125; }

puts=() out='' silence=60 tty=no script=''
while [ $# -gt 0 ]; do
    case $1 in
        --put) puts+=("${2:?}"); shift 2 ;;
        --out) out=${2:?}; shift 2 ;;
        --silence) silence=${2:?}; shift 2 ;;
        --tty) tty=yes; shift ;;
        -*) die "unknown option '$1'" ;;
        *) [ -z "$script" ] || die "more than one script: '$script', '$1'"; script=$1; shift ;;
    esac
done
[ -f "$script" ] || die "no script '$script'"

mkdir -p "$root/target"
work=$(mktemp -d "$root/target/.lab.XXXXXX")
qemu=''
# shellcheck disable=SC2317 # called by the trap
finish() {
    if [ -n "$qemu" ]; then kill -9 "$qemu" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 125' INT TERM HUP

"$root/packaging/demo/mk-initramfs.sh" "$work/initramfs" lab

pack() { # the payload: one tar with everything, links followed
    local put name
    mkdir "$work/payload"
    for put in "${puts[@]}"; do
        name=$(basename "${put%%=*}")
        case $put in *=*) name=${put#*=} ;; esac
        [ -e "${put%%=*}" ] || die "--put $put: no such file"
        mkdir -p "$(dirname "$work/payload/$name")"
        ln -s "$(realpath "${put%%=*}")" "$work/payload/$name"
    done
    ln -s "$(realpath "$script")" "$work/payload/script"
    tar -c -h --sort=name --owner=0 --group=0 --mode=a+rX -C "$work/payload" -f "$work/payload.tar" .
}
pack

nonce=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
# shellcheck disable=SC2054 # QEMU's options have commas
command=(
    qemu-system-x86_64 -nodefaults -no-user-config -M q35 -accel tcg,thread=multi -cpu EPYC-Rome -smp 1 -m 2048
    -display none -monitor none -chardev "stdio,id=console,signal=off" -serial chardev:console -no-reboot
    -kernel "$guest/vmlinuz" -initrd "$work/initramfs"
    -drive "file=$work/payload.tar,format=raw,if=virtio,readonly=on"
    -drive "file=$work/out.tar,format=raw,if=virtio,cache=unsafe"
    -append "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable mitigations=off random.trust_cpu=on lab.nonce=$nonce lab.tty=$tty"
)

relay() { # PIPE → passes lines on until the lab ends or says nothing; 0: it ended, 1: silence
    local line
    while true; do
        if IFS= read -r -t "$silence" line; then
            line=${line%$'\r'}
            case $line in
                "lab-exit $nonce "*) status=${line##* } ;;
                "lab-alive $nonce") ;;
                *) [ -n "$status" ] || printf '%s\n' "$line" ;;
            esac
        elif [ $? -gt 128 ]; then
            return 1
        else
            return 0
        fi
    done <"$1"
}

status=''
attempt() { # sets status; 1: silence
    status=''
    rm -f "$work/out.tar" "$work/pipe"
    truncate -s 1G "$work/out.tar"
    mkfifo "$work/pipe"
    "${command[@]}" </dev/null >"$work/pipe" 2>"$work/qemu.log" &
    qemu=$!
    local ended=0
    relay "$work/pipe" || ended=1
    [ $ended = 0 ] || kill -9 "$qemu" 2>/dev/null || true
    wait "$qemu" 2>/dev/null || true
    qemu=''
    return $ended
}

if [ $tty = yes ]; then
    truncate -s 1G "$work/out.tar"
    "${command[@]}" 2>"$work/qemu.log" || true
elif ! attempt; then
    echo "run-lab: nothing heard for $silence s; ended, trying once more" >&2
    attempt || die "silent for $silence s again; giving up"
fi

# The script's status comes out with its files; the console's line must agree where we saw one.
mkdir "$work/out"
tar -x -C "$work/out" -f "$work/out.tar" 2>/dev/null || { tail -n 5 "$work/qemu.log" >&2; die "the lab left no results"; }
from_disk=$(cat "$work/out/status" 2>/dev/null || true)
[ -n "$from_disk" ] || die "the lab left no status"
[ $tty = yes ] || [ "$status" = "$from_disk" ] || die "the lab says '$status' on its console, '$from_disk' on its disk"
if [ -n "$out" ]; then
    mkdir -p "$out"
    rm "$work/out/status"
    cp -a --sparse=always "$work/out/." "$out/"
fi
exit "$from_disk"
