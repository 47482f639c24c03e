# shellcheck shell=sh disable=SC2154
# Which process serves which role of the VM called $name, and killing it from outside.
#
# Sourced by session.sh and by the lab's cases, both busybox sh; they define `fail`. What is looked at is
# `bulkhead ps --json`, an array of flat objects.

processes() { bulkhead ps "$name" --json | tr -d '\n ' | tr '{' '\n'; } # → one line a process

pid_of() { # ROLE → its pid, if it is running
    processes | grep "\"role\":\"$1\"" | sed -n '/"state":"running"/s/.*"pid":\([0-9]*\).*/\1/p'
}

restarts_of() { # ROLE
    processes | grep "\"role\":\"$1\"" | sed -n 's/.*"restarts":\([0-9]*\).*/\1/p'
}

await_successor() { # ROLE PIDS_BEFORE
    tries=0
    while pid=$(pid_of "$1"); [ -z "$pid" ] || case " $2 " in *" $pid "*) true ;; *) false ;; esac; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || fail "$1 did not come back"
        sleep 0.05
    done
}

kill_and_wait() { # ROLE… : kills them at once, waits until each has a successor
    victims=
    for role in "$@"; do
        pid=$(pid_of "$role")
        [ -n "$pid" ] || fail "no process of $role to kill"
        victims="$victims $pid"
    done
    # shellcheck disable=SC2086 # one word a pid
    kill -9 $victims || fail "could not kill $*"
    for role in "$@"; do await_successor "$role" "$victims"; done
    echo "killed $* (pid$victims) and back again"
}

kill_disk_processes() { # ROUNDS: vhost-blk, block-layer and both, so often; their restarts must be as many
    round=0
    while [ $round -lt "$1" ]; do
        kill_and_wait vhost-blk
        kill_and_wait block-layer
        kill_and_wait vhost-blk block-layer
        round=$((round + 1))
    done
    for role in vhost-blk block-layer; do
        restarts=$(restarts_of $role)
        [ "$restarts" = $((2 * $1)) ] || fail "$role: $((2 * $1)) kills, '$restarts' restarts"
    done
}
