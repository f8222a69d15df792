#!/usr/bin/env bash
# Replicas that need a snapshot, on real processes: one that was away for so long that the log behind it is
# gone, also when it is killed in the middle, more than once; and one that is new to the group. Each catches
# up without anybody's help, holds everything, and leads.
# Usage: tests/cluster/snapshot_test.sh   (after a build; about half a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-snapshot.XXXXXX")
dir=$work/cluster
new_pid=
cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
cleanup() {
    local code=$?
    if [ "$code" -ne 0 ]; then
        tail -n 12 "$dir"/*.log "$work"/*.log 2>/dev/null || true
    fi
    [ -z "$new_pid" ] || kill -KILL "$new_pid" 2>/dev/null || true
    cluster clean >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
cli() {
    "$bin/shardkv-cli" --timeout 20000 "$@"
}
step() {
    say "== [$SECONDS s] $*"
}

# ---- What the group says of itself ----

replica() { # ID FIELD: of group 1, as `status` prints it; nothing if it does not answer
    cli status 2>/dev/null | awk -v id="$1" -v field="$2" '$1 == 1 && $2 == id && $3 ~ /:/ && $4 != "down" { print $field }'
}
leader() {
    local id try
    for ((try = 0; try < 200; try++)); do
        id=$(cli status 2>/dev/null | awk '$1 == 1 && $3 ~ /:/ && $4 == "leader" { id = $2 } END { print id }')
        [ -z "$id" ] || { echo "$id"; return 0; }
        sleep 0.1
    done
    die "group 1 has no leader"
}
await_caught_up() { # ID
    local try commit
    for ((try = 0; try < 600; try++)); do
        commit=$(replica "$(leader)" 6)
        [ -z "$commit" ] || [ "$(replica "$1" 7)" != "$commit" ] || return 0
        sleep 0.1
    done
    die "replica $1 has not caught up within a minute"
}
installed() { # LOG: how many snapshots that replica has installed
    grep -c 'snapshot installed' "$1" || true
}
# More than a leader keeps of its log for one who is away; and a few keys to be recognised by.
write_much() { # NAME
    local i
    cli bench --op put --clients 8 --connections 2 --value-bytes 100000 --keys 400 --ops 2400 >"$work/bench.out" ||
        die "the load failed"
    for i in 1 2 3; do cli put "$1-$i" "value $i of $1" >/dev/null; done
}
# Leads, and has everything.
must_serve() { # ID NAME...
    local id=$1 name try
    shift
    for ((try = 0; try < 100; try++)); do
        [ "$(leader)" != "$id" ] || break
        cli transfer 1 "$id" >/dev/null 2>&1 || true
        sleep 0.1
    done
    [ "$(leader)" = "$id" ] || die "replica $id does not lead"
    for name in "$@"; do
        [ "$(cli scan "$name-" | wc -l)" = 3 ] || die "replica $id has not all of $name"
        [ "$(cli get "$name-2")" = "value 2 of $name" ] || die "replica $id has another value of $name-2"
    done
    [ "$(cli scan --keys-only | wc -l)" -ge 400 ] || die "replica $id has not all keys"
}

step "three replicas; one dies, and the others write more than they keep of their log"
cluster up --groups 1 --ctrlers 1 --shards 16 >"$work/up.out"
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls
write_much before
away=$(($(leader) % 3 + 1))
cluster kill "g1-$away" >/dev/null
write_much while
step "it comes back, and is killed in the middle of its snapshot"
for pause in 0.15 0.4 0.8; do
    cluster restart "g1-$away" >/dev/null
    sleep "$pause"
    cluster kill "g1-$away" >/dev/null
done
cluster restart "g1-$away" >/dev/null
await_caught_up "$away"
[ "$(installed "$dir/g1-$away.log")" -ge 1 ] || die "it caught up without a snapshot: the test tests nothing"
must_serve "$away" before while

step "away again, and back without a break"
away=$((away % 3 + 1))
cluster kill "g1-$away" >/dev/null
write_much again
cluster restart "g1-$away" >/dev/null
await_caught_up "$away"
[ "$(installed "$dir/g1-$away.log")" -ge 1 ] || die "it caught up without a snapshot: the test tests nothing"
must_serve "$away" before while again

step "a fourth replica, which has nothing"
url=tcp://127.0.0.1:$(free_port_range 1)
member=$(cli replica list 1 | awk '$1 ~ /^[0-9]+$/ { member = $1 "=" $2 } END { print member }')
"$bin/shardkv" --gid 1 --id 4 --join --cluster "$member,4=$url" --ctrlers "$SHARDKV_CTRLERS" --data "$work/new" \
    >"$work/new.out" 2>"$work/new.log" &
new_pid=$!
cli replica add 1 "4=$url" >/dev/null
await_caught_up 4
[ "$(installed "$work/new.log")" = 1 ] || die "the new one did not get a snapshot"
must_serve 4 before while again

step "each starts again with what it was given"
for id in 1 2 3; do
    cluster kill "g1-$id" >/dev/null
    cluster restart "g1-$id" >/dev/null
    await_caught_up "$id"
done
must_serve "$away" before while again
grep -hE 'assertion failed|Sanitizer|runtime error' "$dir"/*.log "$work/new.log" && die "a server failed"
say "snapshots OK in $SECONDS s"
