#!/bin/sh
# Runs every case inside the lab, one after another, and says of each how it went.
#
# The script that run-lab.sh is given by cases.sh. A case gets a folder, a time after which it is killed and a clean machine: one that leaves a process, a socket or a cgroup behind fails.
# Status 77 is a case that can't be run here. Logs of what failed go out with the disks.
limit=240
failures=0

programs() { # → pids of what is neither the kernel's nor busybox: Bulkhead's processes, whatever they call themselves
    # shellcheck disable=SC2010,SC2012 # one process for all links
    ls -l /proc/[0-9]*/exe 2>/dev/null | grep -v -e '-> /bin/busybox$' | sed -n 's|.* /proc/\([0-9]*\)/exe -> .*|\1|p'
}

leftovers() { # → what a case left behind
    for pid in $(programs); do echo "process $pid ($(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline"))"; done
    for entry in /run/bulkhead/* /run/user/1000/bulkhead/*; do [ ! -e "$entry" ] || echo "$entry"; done
    find /sys/fs/cgroup -mindepth 1 -type d
    grep -v -E '^(dev|proc|lab|sys|devpts|shm|security|cgroup) ' /proc/mounts
}

settle() { # gives what was just killed a moment to be reaped
    tries=0
    while [ -n "$(leftovers)" ] && [ $tries -lt 20 ]; do usleep 100000; tries=$((tries + 1)); done
}

for file in /lab/cases/*.sh; do
    case=$(basename "$file" .sh)
    export case
    mkdir -p "/lab/work/$case"
    chmod 777 "/lab/work/$case"
    cd "/lab/work/$case" || exit
    started=$(cut -d' ' -f1 /proc/uptime)
    # shellcheck disable=SC2016 # the inner shell's $0
    timeout -s KILL $limit sh -c '. /lab/boot.sh; . "$0"' "$file" >log 2>&1
    status=$?
    took=$(echo "$(cut -d' ' -f1 /proc/uptime) $started" | awk '{ printf "%.1f s", $1 - $2 }')
    why=$(tail -n 1 log)
    settle
    left=$(leftovers | tr '\n' ' ')
    if [ -n "$left" ]; then
        # shellcheck disable=SC2046 # one word a pid
        kill -9 $(programs) 2>/dev/null
        [ $status != 0 ] || { status=1 why="left behind: $left"; }
    fi
    case $status in
        0) echo "case $case ok ($took)" ;;
        77) echo "case $case skipped $why" ;;
        *)
            [ $status -lt 128 ] || why="killed after $limit s; $why"
            echo "case $case FAILED $why ($took)"
            for part in log said console; do
                [ -e $part ] || continue
                tail -n 15 $part | cut -c 1-200 | tr -d '\r' | sed "s/^/    $part: /"
            done
            mkdir -p "/lab/out/logs/$case"
            cp log said console "/lab/out/logs/$case/" 2>/dev/null
            failures=$((failures + 1))
            ;;
    esac
    cd /lab && rm -rf "/lab/work/$case"
done
[ $failures = 0 ]
