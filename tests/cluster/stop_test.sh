#!/usr/bin/env bash
# What SIGTERM does to a server, on real processes: a leader hands leadership over before it ends, so that
# clients see no error; one that nobody can take over from stays for a while, in case that changes, and ends
# all the same. All ends are orderly: exit code 0, and everything is there at the next start.
# Usage: tests/cluster/stop_test.sh   (after a build; about ten seconds)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

grace_ms=700 # raft/host/run.c, STOP_GRACE_MS
work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-stop.XXXXXX")
declare -A pids=()
cleanup() {
    local code=$? name
    exec 2>/dev/null # of what is killed here, the shell would tell
    touch "$work/enough"
    for name in "${!pids[@]}"; do
        kill -KILL "${pids[$name]}" 2>/dev/null || true
    done
    if [ "$code" -ne 0 ]; then
        say "--- last traces of each server"
        tail -n 12 "$work"/*.log || true
    fi
    wait 2>/dev/null || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

cli() {
    "$bin/shardkv-cli" --ctrlers "$ctrlers" --timeout 20000 "$@"
}
step() {
    say "== [$SECONDS s] $*"
}

base=$(free_port_range 5)
ctrlers=tcp://127.0.0.1:$base
spec=1=tcp://127.0.0.1:$((base + 1)),2=tcp://127.0.0.1:$((base + 2)),3=tcp://127.0.0.1:$((base + 3))

start() { # ID; c: the controller
    local command=("$bin/shardkv" --gid 1 --id "$1" --cluster "$spec" --ctrlers "$ctrlers") try
    [ "$1" != c ] || command=("$bin/shardctrler" --shards 16 --id 1 --cluster "1=$ctrlers")
    : >"$work/ready-$1" # what an earlier life said is not meant
    "${command[@]}" --data "$work/data-$1" >"$work/ready-$1" 2>"$work/$1.log" &
    pids[$1]=$!
    for ((try = 0; try < 300; try++)); do
        ! grep -q ^ready "$work/ready-$1" || return 0
        sleep 0.1
    done
    die "server $1 did not start"
}
# ended ID: it must end by itself, with exit code 0.
ended() {
    local code=0
    wait "${pids[$1]}" || code=$?
    unset "pids[$1]"
    [ "$code" = 0 ] || die "server $1 ended with exit code $code"
}
leader() {
    local id try
    for ((try = 0; try < 200; try++)); do
        id=$(cli --json replica list 1 2>/dev/null | tr '{' '\n' | sed -n 's/.*"id": *\([0-9]*\),.*"leader": *true.*/\1/p' | head -n 1)
        [ -z "$id" ] || { echo "$id"; return 0; }
        sleep 0.1
    done
    die "the group has no leader"
}
# took_ms ID: from the order to stop to the end, by the server's own clock.
took_ms() {
    awk '/ stopping$/ { from = ms($1) } / stopped exit_code=0$/ { took = ms($1) - from; print took < 0 ? took + 86400000 : took }
        function ms(text, part) { split(substr(text, 12, 12), part, ":"); return (part[1] * 3600 + part[2] * 60 + part[3]) * 1000 }' "$work/$1.log"
}

step "a group of three"
for id in c 1 2 3; do start "$id"; done
cli wait
cli join 1 "$spec" >/dev/null
cli wait --shards
for ((i = 1; ; i++)); do
    printf '{"id":%d,"op":"put","key":"key-%d","arg":"value-%d"}\n' "$i" "$i" "$i"
    [ ! -e "$work/enough" ] || break
    sleep 0.01
done | cli pipe >"$work/replies" &
load_pid=$!

step "SIGTERM to the leader: another one takes over because it was told to"
for ((try = 0; try < 200; try++)); do
    [ "$(wc -l <"$work/replies")" -lt 20 ] || break
    sleep 0.1
done
asked=
for ((try = 0; try < 3; try++)); do # on a busy machine a leader may lose its place just then
    old=$(leader)
    kill -TERM "${pids[$old]}"
    ended "$old"
    say "   it took $(took_ms "$old") ms"
    new=$(leader)
    [ "$new" != "$old" ] || die "$old still leads"
    asked=$(grep ' candidate .*transfer=1' "$work/$new.log" || true)
    start "$old"
    [ -z "$asked" ] || break
done
[ -n "$asked" ] || die "$new was not asked to take over"
touch "$work/enough"
wait "$load_pid" || die "the client failed"
! grep -v '"ok":true' "$work/replies" || die "the client saw errors"

step "SIGTERM to a leader that nobody can take over from: it stays for a while, and ends"
lead=$(leader)
for id in 1 2 3; do
    [ "$id" = "$lead" ] || kill -STOP "${pids[$id]}"
done
kill -TERM "${pids[$lead]}"
ended "$lead"
took=$(took_ms "$lead")
say "   it took $took ms"
[ "$took" -ge $((grace_ms - 20)) ] || die "it did not wait for anybody to take over"
for id in 1 2 3; do
    [ "$id" = "$lead" ] || kill -CONT "${pids[$id]}"
done
start "$lead"

step "SIGTERM to a follower, to all of a group, and to a controller that is alone"
lead=$(leader)
other=$((lead % 3 + 1))
kill -TERM "${pids[$other]}"
ended "$other"
[ "$(leader)" = "$lead" ] || die "a follower's end cost the leader its place"
start "$other"
for id in 1 2 3 c; do kill -TERM "${pids[$id]}"; done
for id in 1 2 3 c; do ended "$id"; done
for id in c 1 2 3; do start "$id"; done

step "everything is there"
n=$(wc -l <"$work/replies")
seq "$n" | awk '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"key-%d\"}\n", $1, $1 }' | cli pipe |
    sed -n 's/.*"out": *"\([^"]*\)".*/\1/p' >"$work/got"
seq "$n" | sed 's/^/value-/' | cmp - "$work/got" || die "values differ"
for id in 1 2 3 c; do kill -TERM "${pids[$id]}"; done
for id in 1 2 3 c; do ended "$id"; done
say "stop OK: $n values, $SECONDS s"
