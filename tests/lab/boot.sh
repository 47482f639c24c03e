# shellcheck shell=sh disable=SC2034,SC2154
# What the cases are written in: boot a guest under Bulkhead, wait for what it says, answer, see it end.
#
# Sourced by every case, inside the lab (busybox sh), after run-cases.sh has set $case and made the current folder. A
# case ends by `fail WHY`, `skip WHY` or by reaching its end. The guest's console is in the file `console`, what the
# command says in `said`. No case measures time: an `await` gives up only when the guest is gone or says nothing more.
name=$case
kernel=/lab/guest/vmlinux
options='--cpu kvm --memory 256M'
append='console=hvc0 quiet panic=-1 no_timer_check 8250.nr_uarts=1'
# An emulated CPU is spared what costs it seconds. The rest is about QEMU's emulated SVM, which now and then loses what
# KVM injects: an interrupt slips in between a guest's `sti` and `hlt`, or its timer's never comes. The guest then sleeps
# on work it has until something else wakes it; one boot in ten stood still for seconds, one machine in twenty for
# minutes. With a periodic timer (nohz=off, and no deadline or one-shot timer, of which a lost one is the last) it sleeps
# 4 ms.
append="$append tsc=reliable mitigations=off random.trust_cpu=on nohz=off highres=off lapic=notscdeadline"

fail() { echo "$*"; exit 1; }
skip() { echo "$*"; exit 77; }
# shellcheck disable=SC1091 # in packaging/demo
. /lab/roles.sh

new_disk() { # a copy of the lab's disk for this case; the host checks it afterwards
    disk=/lab/out/$case.img
    cp /lab/disk.img "$disk"
    options="$options --disk path=$disk,format=raw,id=d0,serial=lab"
}

boot() { # SCRIPT [OPTION…]: from the start to the end of the guest
    script=$1; shift
    # shellcheck disable=SC2086 # options are words
    $as bulkhead run --name "$name" --kernel "$kernel" --initrd /lab/initramfs $options --console stdio \
        --append "$append bulkhead.script=$script" "$@" </dev/null >console 2>said
}

start() { # SCRIPT [OPTION…]: in the background; `tell` writes to its console
    script=$1; shift
    rm -f to-guest
    : >console
    mkfifo to-guest
    chmod 666 to-guest
    exec 3<>to-guest
    # shellcheck disable=SC2086 # options are words
    $as bulkhead run --name "$name" --kernel "$kernel" --initrd /lab/initramfs $options --console stdio \
        --append "$append bulkhead.script=$script" "$@" <to-guest >console 2>said 3>&- &
    vm=$!
}

tell() { echo "$*" >&3; }

await() { # TEXT: until the console has it
    tries=0 seen=0
    until grep -qF "$1" console; do
        kill -0 "$vm" 2>/dev/null || fail "the guest ended before it said '$1'; the command: $(tail -n 1 said)"
        size=$(wc -c <console)
        if [ "$size" != "$seen" ]; then tries=0 seen=$size; fi
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "the guest does not say '$1'; its last words: $(tail -n 1 console)"
        usleep 50000
    done
}

ended() { # the status of `bulkhead run`
    wait "$vm"
}

said() { # TEXT: the console must have it
    grep -qF "$1" console || fail "the guest did not say '$1'; its last words: $(tail -n 1 console)"
}

no_trouble() { # in what the guest reported of its kernel's log
    if grep 'report: trouble' console >trouble; then fail "$(head -n 1 trouble)"; fi
}
