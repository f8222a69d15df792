#!/usr/bin/env bash
# Many hostile clients at once, at every port of the real programs: ten thousand connections, bytes that
# come one by one, floods of valid requests, answers that nobody reads. A friend goes on working all the
# while (hostile_crowd.c): none of its operations may fail, none may take longer than the bound. The servers
# must stay within the bounds of memory below, and have given back every socket afterwards.
# Usage: tests/cluster/hostile_test.sh [--long]   (after a build; under 40 s; --long: some minutes)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

seconds=3
rounds=1
[ "${1:-}" != --long ] || { seconds=10; rounds=3; }
latency_ms=5000 # on a machine that does other things as well

# What may be resident at most, in MiB, above what was before. A server takes 4096 connections: a silent one
# costs about 10 KiB. Answers that wait are bounded by 512 MiB in all (raft/net.h), and what is being sent
# or put together by about 0.5 MiB a connection, of which `greedy` has 200.
declare -A bound_mib=([crowd]=160 [drip]=40 [flood]=120 [greedy]=720)
left_mib=160 # afterwards: what malloc keeps for the next time, and caches that were empty before

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-hostile.XXXXXX")
pids=()
for name in $(env | sed -n 's/^\(SHARDKV_[A-Z_]*\)=.*/\1/p'); do
    [ "$name" = SHARDKV_BUILD ] || unset "$name"
done
cleanup() {
    local code=$? pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ]; then
        tail -n 5 "$work"/*.err 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

port=$(free_port_range 4)
ctrl_url=tcp://127.0.0.1:$port
kv_url=tcp://127.0.0.1:$((port + 1))
ctrl_metrics=$((port + 2))
kv_metrics=$((port + 3))
export SHARDKV_CTRLERS=$ctrl_url

# start NAME COMMAND...: a server; its process id goes into pid_NAME.
start() {
    local name=$1 i
    shift
    "$@" --data "$work/$name" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    pids+=($!)
    printf -v "pid_$name" %s "$!"
    for ((i = 0; i < 500; i++)); do
        grep -qs '^ready ' "$work/$name.out" && return 0
        sleep 0.02
    done
    die "$name does not start"
}
memory_kib() { # PID FIELD
    awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}
sockets() {
    { find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null || true; } | wc -l # some go while it looks
}
instrumented() {
    grep -q 'SHARDKV_[ATU].*SAN:BOOL=ON' "$build/CMakeCache.txt"
}

# attack NAME WHAT PORT METRICS_PORT
attack() {
    local name=$1 what=$2 pid_name=pid_$1 pid before peak after n_before n_after i line worst
    pid=${!pid_name}
    before=$(memory_kib "$pid" VmRSS)
    n_before=$(sockets "$pid")
    echo 5 >"/proc/$pid/clear_refs" # the peak begins anew
    line=$(timeout 120 "$build/tests/hostile_crowd" "$3" "$what" "$4" "$seconds" 2>"$work/crowd.err") ||
        die "$name: $what: $(cat "$work/crowd.err")"
    worst=${line##* }
    for ((i = 0; i < 1000; i++)); do # what was closed is given back within seconds
        n_after=$(sockets "$pid")
        [ "$n_after" -gt "$n_before" ] || break
        sleep 0.02
    done
    kill -0 "$pid" || die "$name died of $what"
    peak=$((($(memory_kib "$pid" VmHWM) - before) / 1024))
    for ((i = 0; i < 100; i++)); do # so is memory
        after=$((($(memory_kib "$pid" VmRSS) - before) / 1024))
        [ "$after" -gt "$left_mib" ] || break
        sleep 0.1
    done
    printf '%-5s %-7s friend: %4d operations (%d tries refused), worst %4d ms; memory +%d MiB at most, +%d MiB left; sockets %d, then %d\n' \
        "$name" "$what" "$(cut -d' ' -f2 <<<"$line")" "$(cut -d' ' -f3 <<<"$line")" "$worst" "$peak" "$after" "$n_before" "$n_after"
    [ "$n_after" -le "$n_before" ] || die "$name: sockets are left open after $what"
    instrumented && return 0
    [ "$worst" -le "$latency_ms" ] || die "$name: the friend waited for $worst ms during $what"
    [ "$peak" -le "${bound_mib[$what]}" ] || die "$name: $what cost $peak MiB, the bound is ${bound_mib[$what]}"
    [ "$after" -le "$left_mib" ] || die "$name: $after MiB are left after $what"
}

start ctrl "$bin/shardctrler" --id 1 --cluster "1=$ctrl_url" --shards 16 --metrics "http://127.0.0.1:$ctrl_metrics"
start kv "$bin/shardkv" --gid 1 --id 1 --cluster "1=$kv_url" --ctrlers "$ctrl_url" --metrics "http://127.0.0.1:$kv_metrics"
"$bin/shardkv-cli" --timeout 10000 join 1 "1=$kv_url" >"$work/cli.out"
"$bin/shardkv-cli" --timeout 20000 wait --shards >>"$work/cli.out"
"$bin/shardkv-cli" put key-1 value-1
head -c $((16 << 20)) /dev/zero | "$bin/shardkv-cli" put big-1 -
for ((round = 1; round <= rounds; round++)); do
    for what in crowd drip flood; do
        attack ctrl "$what" "$port" "$ctrl_metrics"
    done
    for what in crowd drip flood greedy; do
        attack kv "$what" $((port + 1)) "$kv_metrics"
    done
done
[ "$("$bin/shardkv-cli" --timeout 60000 get key-1)" = value-1 ] || die "a value is gone"
for pid in "${pids[@]}"; do
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" = 0 ] || die "a server ended with $code"
done
pids=()
grep -hE 'Sanitizer|runtime error|assertion failed' "$work"/*.err && die "a server failed, or did not end cleanly"
say "hostile OK in $SECONDS s"
