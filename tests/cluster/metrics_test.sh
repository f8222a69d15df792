#!/usr/bin/env bash
# What the servers show of themselves, on real processes: values move as they should, /livez and
# /readyz change as raft/host/METRICS.md says, every metric is documented there and the reverse, and
# promtool finds nothing to complain about (if it is installed: scripts/install_deps.sh --promtool).
# Usage: tests/cluster/metrics_test.sh   (after a build; under half a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-metrics.XXXXXX")
document=$root/raft/host/METRICS.md
declare -A pid=() port=()
load_pid=

cleanup() {
    local code=$? node
    rm -f "$work/load" # ends the load
    [ -z "$load_pid" ] || kill "$load_pid" 2>/dev/null || true
    for node in "${!pid[@]}"; do
        kill -KILL "${pid[$node]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ "$code" -ne 0 ]; then
        say "--- last traces of each server"
        tail -n 15 "$work"/*.log 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

step() {
    say "== $*"
}
cli() {
    "$bin/shardkv-cli" --timeout 15000 "$@"
}

# ---- Servers: ctrl-1, g1-2, …; the metrics of each at its own port.

start() {
    local node=$1 number=${1##*-}
    shift
    env -u SHARDKV_CTRLERS "$@" --id "$number" --data "$work/$node" --metrics "http://127.0.0.1:${port[$node]}" \
        --election-timeout 1200 --heartbeat 100 --log-level info >"$work/$node.out" 2>>"$work/$node.log" &
    pid[$node]=$!
}
start_ctrler() {
    start "ctrl-$1" "$bin/shardctrler" --cluster "$spec_ctrl" --shards 16
}
start_replica() {
    local spec=spec_g$1
    start "g$1-$2" "$bin/shardkv" --gid "$1" --cluster "${!spec}" --ctrlers "$SHARDKV_CTRLERS"
}
end() {
    kill "-$2" "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# The whole answer of a node to a GET; nothing if there is none.
answer() {
    { exec 9<>"/dev/tcp/127.0.0.1/${port[$1]}"; } 2>/dev/null || return 0
    printf 'GET %s HTTP/1.1\r\nHost: test\r\n\r\n' "$2" >&9 2>/dev/null || true
    timeout 5 cat <&9 2>/dev/null || true
    exec 9>&- || true
}
body() {
    answer "$@" | sed '1,/^\r$/d'
}
code() {
    answer "$@" | sed -n '1s/HTTP\/1.1 \([0-9]*\).*/\1/p'
}
# value NODE SERIES: its value now, 0 if there is no such series.
value() {
    body "$1" /metrics | awk -v series="$2" '$1 == series { found = $2 } END { print found + 0 }'
}
# await WHAT COMMAND...: until it succeeds, for at most 10 s.
await() {
    local what=$1 i
    shift
    for ((i = 0; i < 200; i++)); do
        if "$@"; then
            return 0
        fi
        sleep 0.05
    done
    die "in vain waited for: $what"
}
is_value() {
    [ "$(value "$1" "$2")" = "$3" ]
}
is_above() {
    awk -v is="$(value "$1" "$2")" -v than="$3" 'BEGIN { exit !(is > than) }'
}
is_code() {
    [ "$(code "$1" "$2")" = "$3" ]
}
expect_value() {
    is_value "$@" || die "$1: $2 is $(value "$1" "$2"), expected $3"
}
# sum PREFIX SERIES: over the live servers of a group: who led meanwhile does not matter.
sum() {
    local node
    for node in "${!pid[@]}"; do
        [[ $node != "$1"-* ]] || body "$node" /metrics
    done | awk -v series="$2" '$1 == series { sum += $2 } END { print sum + 0 }'
}
is_sum() {
    [ "$(sum "$1" "$2")" = "$3" ]
}
expect_sum() {
    is_sum "$@" || die "all of $1: $2 is $(sum "$1" "$2"), expected $3"
}
is_sum_above() {
    [ "$(sum "$1" "$2")" -gt "$3" ]
}
# leader_of PREFIX: the server of that group that leads; waits for one.
leader_of() {
    local i node
    for ((i = 0; i < 200; i++)); do
        for node in "${!pid[@]}"; do
            if [[ $node == "$1"-* ]] && is_value "$node" shardkv_raft_is_leader 1; then
                echo "$node"
                return 0
            fi
        done
        sleep 0.05
    done
    die "no leader of $1"
}
# puts N SEED: N puts, which all succeed.
puts() {
    local replies=$work/replies.$2
    seq "$1" | awk -v seed="$2" '{ printf "{\"id\":%d,\"op\":\"put\",\"key\":\"key-%s-%d\",\"arg\":\"value\"}\n", $1, seed, $1 }' |
        cli pipe >"$replies"
    [ "$(grep -c '"ok": *true' "$replies")" = "$1" ] || die "puts failed: $(grep -v '"ok": *true' "$replies" | head -n 3)"
}
gets() {
    seq "$1" | awk -v seed="$2" '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"key-%s-%d\"}\n", $1, seed, $1 }' |
        cli pipe >"$work/replies.gets"
}

# ---- Pages

keep_page() {
    body "$1" /metrics >"$work/page.$1"
    [ -s "$work/page.$1" ] || die "$1 shows no metrics"
    if [ -n "$promtool" ]; then
        "$promtool" check metrics <"$work/page.$1" >"$work/promtool" 2>&1 ||
            die "promtool about $1: $(cat "$work/promtool")"
        [ ! -s "$work/promtool" ] || die "promtool about $1: $(cat "$work/promtool")"
    fi
}
# Every metric shown stands in the document, with its type, and everything in the document is shown.
compare_with_document() {
    cat "$work"/page.* | sed -n 's/^# TYPE \([a-z_]*\) \([a-z]*\)$/\1 \2/p' | sort -u >"$work/shown"
    sed -n 's/^| `\([a-z_]*\)` | \([a-z]*\) |.*/\1 \2/p' "$document" | sort >"$work/documented"
    [ -z "$(uniq -d "$work/documented")" ] || die "documented twice: $(uniq -d "$work/documented")"
    diff "$work/documented" "$work/shown" >"$work/difference" ||
        die "documented (<) and shown (>) differ: $(cat "$work/difference")"
}

promtool=$(command -v promtool || true)
step "up"
base=$(free_port_range 14)
next=$base
spec_ctrl="" SHARDKV_CTRLERS="" spec_g1="" spec_g2=""
for node in ctrl-1 ctrl-2 ctrl-3 g1-1 g1-2 g1-3 g2-1; do
    url=tcp://127.0.0.1:$next
    port[$node]=$((next + 7))
    next=$((next + 1))
    case $node in
    ctrl-*) spec_ctrl+=${spec_ctrl:+,}${node##*-}=$url SHARDKV_CTRLERS+=${SHARDKV_CTRLERS:+,}$url ;;
    g1-*) spec_g1+=${spec_g1:+,}${node##*-}=$url ;;
    g2-*) spec_g2=1=$url ;;
    esac
done
export SHARDKV_CTRLERS
for n in 1 2 3; do
    start_ctrler "$n"
    start_replica 1 "$n"
done
for node in ctrl-1 ctrl-2 ctrl-3 g1-1 g1-2 g1-3; do
    await "$node to be ready" is_code "$node" /readyz 200
    is_code "$node" /livez 200 || die "$node is ready, but not alive"
done
is_code g1-1 /nothing 404 || die "an unknown page is not answered with 404"
cli join 1 "$spec_g1" >/dev/null
await "all shards to be served" is_sum g1 'shardkv_shards{state="serving"}' 48 # on 3 replicas
await "all shards to be confirmed" is_sum ctrl 'shardkv_ctrler_shards{state="confirmed"}' 48

step "as many as there were"
applied='shardkv_proposals_total{outcome="applied"}'
before=$(sum g1 "$applied")
durations=$(sum g1 shardkv_proposal_duration_seconds_count)
puts 40 a
gets 30 a
expect_sum g1 "$applied" $((before + 40))
expect_sum g1 shardkv_proposal_duration_seconds_count $((durations + 40))
expect_sum g1 'shardkv_requests_total{op="write",status="ok"}' 40
expect_sum g1 'shardkv_reads_total{outcome="confirmed"}' 30
expect_sum g1 shardkv_read_duration_seconds_count 30
expect_sum g1 'shardkv_requests_total{op="get",status="ok"}' 30
leader=$(leader_of g1)
is_above "$leader" shardkv_sessions 0 || die "no session is remembered"
is_above "$leader" shardkv_wal_fsync_duration_seconds_count 1 || die "no sync was counted"
is_above "$leader" shardkv_loop_turn_duration_seconds_count 40 || die "no turns were counted"

step "garbage is counted"
before=$(value "$leader" shardkv_network_malformed_total)
listen=$((port[$leader] - 7))
(printf 'GET / HTTP/1.1\r\nHost: a server of another protocol\r\n\r\n' >"/dev/tcp/127.0.0.1/$listen") || true
await "malformed frames to be counted" is_above "$leader" shardkv_network_malformed_total "$before"
await "greetings to be counted" is_above "$leader" shardkv_network_greetings_failed_total 0

step "moves are counted"
start_replica 2 1
await "g2-1 to be ready" is_code g2-1 /readyz 200
cli join 2 "$spec_g2" >/dev/null
await "8 shards to arrive" is_value g2-1 'shardkv_moves_total{outcome="installed"}' 8
expect_value g2-1 'shardkv_shards{state="serving"}' 8
expect_value g2-1 shardkv_move_pause_seconds_count 8
is_above g2-1 shardkv_move_received_bytes_total 0 || die "no bytes arrived"
is_sum_above g1 shardkv_move_sent_bytes_total 0 || die "no bytes were sent"
await "8 shards to be gone" is_sum g1 'shardkv_shards{state="serving"}' 24
await "all controllers to know 2 groups" is_sum ctrl shardkv_ctrler_groups 6

step "pages under load"
touch "$work/load"
(while [ -e "$work/load" ]; do puts 200 load; done) &
load_pid=$!
before=$(sum g1 "$applied")
await "the load to begin" is_sum_above g1 "$applied" "$before"
for node in "${!pid[@]}"; do
    keep_page "$node"
done
rm "$work/load"
wait "$load_pid" || die "puts failed while the pages were read"
load_pid=
compare_with_document

step "a follower that sleeps falls behind"
leader=$(leader_of g1)
for follower in g1-1 g1-2 g1-3; do
    [ "$follower" = "$leader" ] || break
done
lag="shardkv_raft_peer_lag_entries{peer=\"${follower##*-}\"}" # shown by the leader only
active="shardkv_raft_peer_active{peer=\"${follower##*-}\"}"
await "nobody to lag" is_sum g1 "$lag" 0
await "all to count as active" is_sum g1 "$active" 1
kill -STOP "${pid[$follower]}"
puts 60 b
is_above "$leader" "$lag" 10 || die "the lag did not grow"
await "it to count as silent" is_value "$leader" "$active" 0
kill -CONT "${pid[$follower]}"
await "it to count as active" is_sum g1 "$active" 1
await "it to catch up" is_sum g1 "$lag" 0

step "a leader that dies is replaced by an election"
leader=$(leader_of g1)
term=$(value "$leader" shardkv_raft_term)
end "$leader" KILL
before=$(sum g1 shardkv_raft_elections_total) # of those that live
second=$(leader_of g1)
is_sum_above g1 shardkv_raft_elections_total "$before" || die "no election was counted"
is_above "$second" shardkv_raft_term "$term" || die "the term did not grow"
await "$second to be ready" is_code "$second" /readyz 200

step "without a quorum nobody is ready, and all are alive"
for third in g1-1 g1-2 g1-3; do
    [ "$third" = "$leader" ] || [ "$third" = "$second" ] || break
done
end "$third" KILL
await "$second to be not ready" is_code "$second" /readyz 503
is_code "$second" /livez 200 || die "$second is not alive"
body "$second" /readyz | grep -q '^\[-\]leader failed: ' || die "/readyz does not say why: $(body "$second" /readyz)"
body "$second" '/livez?verbose' | grep -q '^\[+\]loop ok' || die "/livez?verbose names no checks"
[ "$(body "$second" /livez)" = ok ] || die "/livez says more than asked"
start_replica 1 "${third##*-}"
await "$second to be ready again" is_code "$second" /readyz 200

step "one that stops is not ready"
controller=$(leader_of ctrl)
for node in ctrl-1 ctrl-2 ctrl-3; do # nobody takes leadership over at once
    [ "$node" = "$controller" ] || kill -STOP "${pid[$node]}"
done
kill -TERM "${pid[$controller]}"
await "it to say that it stops" grep -q 'it is stopping' <(for _ in $(seq 40); do body "$controller" /readyz; done)
for node in ctrl-1 ctrl-2 ctrl-3; do
    [ "$node" = "$controller" ] || kill -CONT "${pid[$node]}"
done

if [ -z "$promtool" ]; then
    say "metrics_test: ok, but for promtool, which is not installed (scripts/install_deps.sh --promtool)"
else
    say "metrics_test: ok, with $("$promtool" --version 2>&1 | sed -n '1s/,.*version/,/;1s/ (.*//p')"
fi
