# A debugger on KVM, in its own words: the lab has no gdb, so packets go through nc. First a payload, stopped before its
# first instruction, stepped, interrupted, written to; then Debian's kernel, looked at through its page tables.
# Not here on purpose: a breakpoint that is met. QEMU's emulated SVM takes DR7 from the guest's state without arming what
# it says; the engine's own tests have them where the host's KVM does.
ifconfig lo up
# Who says the last word may close the connection.
trap '' PIPE

packet() { # TEXT → with its checksum
    rest=$1 sum=0
    while [ -n "$rest" ]; do
        sum=$(((sum + $(printf '%d' "'$rest")) % 256)) rest=${rest#?}
    done
    printf '$%s#%02x' "$1" $sum
}

connect() { # opens a conversation: `out` is what was heard
    rm -f in
    mkfifo in
    : >out
    nc 127.0.0.1 1234 <in >>out &
    debugger=$!
    exec 4>in
}

heard() { # how many packets
    tr -cd '#' <out | wc -c
}

hear() { # COUNT → in $answer: the last packet, when there are more than so many
    tries=0
    until [ "$(heard)" -gt "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || fail "no answer: $(tail -c 100 out)"
        # The last answer may have come with the end.
        kill -0 $debugger 2>/dev/null || [ "$(heard)" -gt "$1" ] || fail "the connection closed; $(tail -n 1 said)"
        usleep 50000
    done
    usleep 50000
    answer=$(tail -c 4000 out | sed 's/.*\$\([^$]*\)#..[^#]*$/\1/')
    printf + >&4
}

ask() { # PACKET → in $answer
    count=$(heard)
    packet "$1" >&4
    hear "$count"
    echo "$1: $(echo "$answer" | cut -c 1-60)" >&2
}

expect() { # PACKET PATTERN
    ask "$1"
    # shellcheck disable=SC2254 # a pattern
    case $answer in
        $2) ;;
        *) fail "to '$1': '$answer', not '$2'" ;;
    esac
}

rip() { # → of vCPU 0: behind the 16 general registers, 16 digits each
    ask g
    printf '%s' "$answer" | cut -c 257-272 | sed 's/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/'
}

at() { # ADDRESS: 16 digits
    here=$(rip)
    [ "$here" = "$1" ] || fail "it stands at $here, not at $1"
}

# mov dx, 0x3f8; mov al, '!'; out dx, al; again: add dword [ebx], 1; jmp again. Multiboot, loaded at 1 MiB.
{
    printf '\002\260\255\033\000\000\001\000\376\117\121\344'
    printf '\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000'
    printf '\146\272\370\003\260\041\356\203\003\001\353\373'
} >payload
bulkhead run --name "$name" --cpu kvm --kernel payload --memory 64M --gdb 1234,wait </dev/null >console 2>said &
vm=$!
tries=0
until bulkhead ps "$name" 2>/dev/null | grep -q 'gdb .* running'; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "the VM does not start: $(tail -n 1 said)"
    usleep 100000
done
connect
expect 'qSupported:swbreak+;hwbreak+;vContSupported+' '*qXfer:features:read+*'
at 0000000000100020
[ ! -s console ] || fail "it ran before it was let"
for next in 0000000000100024 0000000000100026; do
    expect 'vCont;s:1' 'T05thread:01;'
    at $next
done
# The second `again` is made one that adds two.
expect m100020,c 66baf803b021ee830301ebfb
expect M100029,1:02 OK
expect m100027,3 830302
for address in 100000 100001 100002 100003; do expect Z0,$address,1 OK; done
# The processor has four debug registers.
expect Z1,100004,1 E16
for address in 100000 100001 100002 100003; do expect z0,$address,1 OK; done
count=$(heard)
packet 'vCont;c' >&4
usleep 300000
printf '\003' >&4
hear "$count"
[ "$answer" = 'T02thread:01;' ] || fail "interrupt: '$answer'"
said '!'
case $(rip) in
    0000000000100027 | 000000000010002a) ;;
    *) fail "it is not in its loop" ;;
esac
# What the loop counts at: where the second register points, once round it.
ask g
counter=$(printf '%s' "$answer" | cut -c 17-24 | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/')
until [ "$(rip)" = 0000000000100027 ]; do expect 'vCont;s:1' 'T05thread:01;'; done
ask "m$counter,4"
before=$answer
expect 'vCont;s:1' 'T05thread:01;'
at 000000000010002a
ask "m$counter,4"
number() { printf '%d' "0x$(echo "$1" | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/')"; } # HEX as it lies in memory
[ $((($(number "$answer") - $(number "$before")) & 0xffffffff)) = 2 ] || fail "from $before to $answer is not two"
expect D OK
exec 4>&-
wait $debugger
bulkhead kill "$name" || fail "kill: status $?"
wait $vm || fail "bulkhead run: status $?; $(tail -n 1 said)"

start symbols --gdb 1234
await "symbols: ready"
banner=$(awk '$3 == "linux_banner" { print $1 }' console)
connect
expect 'qSupported:swbreak+;hwbreak+;vContSupported+' '*swbreak+*'
# "Linux"
expect "m$banner,5" 4c696e7578
for _ in 1 2 3 4 5; do expect 'vCont;s:1' 'T05thread:01;'; done
case $(rip) in
    ffffffff* | 0000*) ;;
    *) fail "no kernel and no program is there" ;;
esac
expect D OK
exec 4>&-
wait $debugger
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "symbols: done"
