#!/usr/bin/env bash
# The whole thing on one machine: installs, builds, starts a controller group and two replica groups as
# nine processes, loads this machine's package index through the client library, and reads every record
# back after each of: a join, a leave, a move, a kill -9 of each group's leader, with clients reading and
# writing all the while; then kills everything and restarts it. Ends 0 only if every record read back right
# and no client saw an error that it should not have seen. A cluster that is in DIR already is deleted first.
# Usage: scripts/demo.sh [--dir DIR] [--sessions N] [--records N] [--down]
#   --records N   load only the first N records (default: all, some 60,000)
#   --down        stop the cluster and delete its data at the end (default: leave it running)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

dir=$PWD/.cluster sessions=64 down=0 records=0
while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=$2; shift 2 ;;
    --sessions) sessions=$2; shift 2 ;;
    --records) records=$2; shift 2 ;;
    --down) down=1; shift ;;
    --help) sed -n '2,10s/^# //p' "$0"; exit 0 ;;
    *) die "no such option: $1 (see --help)" ;;
    esac
done

cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
cli() {
    "$bin/shardkv-cli" --timeout 20000 "$@"
}
step() {
    printf '\n== %s\n' "$*"
}

# ---- Prepare

step "install and build"
build_all
[ ! -f "$dir/cluster.env" ] || cluster clean
step "start 3 controllers and 2 groups of 3 (nine processes)"
cluster up --groups 2 --no-join
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls
data=$dir/packages.txt
work=$(mktemp -d)
load_pid=
cleanup() {
    local code=$?
    [ -z "$load_pid" ] || kill "$load_pid" 2>/dev/null || true
    rm -rf "$work"
    if [ "$code" -ne 0 ]; then
        printf '\ndemo FAILED (the cluster and its traces are in %s)\n' "$dir" >&2
    fi
}
trap cleanup EXIT

apt-cache dumpavail >"$data" 2>/dev/null || true
if [ "$(grep -c '^Package: ' "$data")" -lt 1000 ]; then
    apt-get update -q >/dev/null
    apt-cache dumpavail >"$data"
fi

# ---- Steps, each with a load that must see no error

verify() {
    "$bin/shardkv-packages" verify --file "$data" --records "$records" --sessions "$sessions"
}

start_load() {
    "$bin/shardkv-cli" --timeout 10000 --json bench --op mixed --read-ratio 0.5 --clients 64 --connections 2 \
        --keys 1000 --rate 400 --seconds "$1" >"$work/load.json" 2>"$work/load.err" &
    load_pid=$!
}

# The load's report: no errors, nothing unknown, and the longest any client waited.
end_load() {
    wait "$load_pid" || { cat "$work/load.json" "$work/load.err" >&2; die "the load saw errors"; }
    load_pid=
    local errors unknown
    errors=$(sed -n 's/.*"errors": *\([0-9]*\).*/\1/p' "$work/load.json")
    unknown=$(sed -n 's/.*"unknown": *\([0-9]*\).*/\1/p' "$work/load.json")
    [ "${errors:-1}" = 0 ] && [ "${unknown:-1}" = 0 ] || {
        cat "$work/load.json" "$work/load.err" >&2
        die "the load saw $errors errors and $unknown unknown outcomes"
    }
    say "meanwhile: $(sed 's/.*"ops": *\([0-9]*\).*"p50_us": *\([0-9.]*\).*"max_us": *\([0-9.]*\).*/\1 operations by other clients, p50 \2 us, longest \3 us, 0 errors/' "$work/load.json")"
}

# The id of a group's leader, from status.
leader_of() {
    cli --json status | tr '{' '\n' | sed -n "s/.*\"gid\": *$1,.*\"id\": *\([0-9]*\),.*\"role\": *\"leader\".*/\1/p" | awk 'NR == 1'
}

step "group 1 joins and takes every shard"
cli join 1 "$spec_g1" >/dev/null
cli wait --shards --timeout 60000 >/dev/null

step "load the package index: $sessions sessions at once"
"$bin/shardkv-packages" load --file "$data" --records "$records" --sessions "$sessions"
verify

step "join: group 2 takes half of the shards, under load"
start_load 20
cli join 2 "$spec_g2" >/dev/null
cli wait --shards --timeout 300000
end_load
verify

step "move: shard 7 to the other group and back, under load"
start_load 10
owner=$(cli --json config | sed 's/.*"shards": *\[\([^]]*\)\].*/\1/' | tr -d ' ' | cut -d, -f8)
cli move 7 $((3 - owner)) >/dev/null
cli wait --shards --timeout 60000
cli move 7 "$owner" >/dev/null
cli wait --shards --timeout 60000
end_load
verify

step "leave: group 1 hands everything to group 2, and joins again, under load"
start_load 40
cli leave 1 >/dev/null
cli wait --shards --timeout 300000
verify
cli join 1 "$spec_g1" >/dev/null
cli wait --shards --timeout 300000
end_load
verify

step "kill -9: the leader of each group, under load"
start_load 15
for gid in 1 2; do
    id=$(leader_of "$gid")
    [ -n "$id" ] || die "group $gid has no leader"
    cluster kill "g$gid-$id"
    say "killed g$gid-$id"
    cli wait --timeout 30000 >/dev/null
    cluster restart "g$gid-$id"
done
end_load
verify

step "restart of everything (kill -9 of all nine processes)"
for name in ctrl-1 ctrl-2 ctrl-3 g1-1 g1-2 g1-3 g2-1 g2-2 g2-3; do cluster kill "$name"; done
cluster up --no-join >/dev/null
cli wait --shards --timeout 60000
verify

step "where everything is now"
cli config
cli status
if [ "$down" = 1 ]; then
    rm -f "$data"
    cluster clean
else
    say ""
    say "the cluster is still running; stop it with: scripts/cluster.sh down --dir $dir"
    say "talk to it with: export SHARDKV_CTRLERS=$ctrler_urls; $bin/shardkv-cli get bash"
fi
say ""
say "demo OK: every record read back right after each step"
