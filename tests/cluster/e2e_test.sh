#!/usr/bin/env bash
# End to end, on real processes: a cluster comes up, takes data, moves shards, loses its leaders by
# kill -9, is killed as a whole, and has every record in the end; and the CLI ends as it should.
# Usage: tests/cluster/e2e_test.sh   (after a build; about a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-e2e.XXXXXX")
dir=$work/cluster
writer_pid=
cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
cleanup() {
    local code=$?
    [ -z "$writer_pid" ] || kill "$writer_pid" 2>/dev/null || true
    if [ "$code" -ne 0 ] && [ -d "$dir" ]; then
        say "--- last traces of each server"
        tail -n 15 "$dir"/*.log 2>/dev/null || true
    fi
    cluster clean >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

cli() {
    "$bin/shardkv-cli" --timeout 15000 "$@"
}
step() {
    say "== $*"
}

n_keys=400
# puts SEED [N]: requests that put key i = value i.SEED for all keys, or the first N.
puts() {
    seq "${2:-$n_keys}" | awk -v seed="$1" '{ printf "{\"id\":%d,\"op\":\"put\",\"key\":\"key-%d\",\"arg\":\"value-%d.%s\"}\n", $1, $1, $1, seed }'
}
write_all() {
    puts "$1" | cli pipe >"$work/replies"
    [ "$(grep -c '"ok": *true' "$work/replies")" = "$n_keys" ] || { grep -v '"ok": *true' "$work/replies" | head; die "puts failed"; }
}
check_all() {
    seq "$n_keys" | awk '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"key-%d\"}\n", $1, $1 }' | cli pipe >"$work/replies"
    seq "$n_keys" | awk -v seed="$1" '{ printf "value-%d.%s\n", $1, seed }' >"$work/want"
    sed -n 's/.*"out": *"\([^"]*\)".*/\1/p' "$work/replies" >"$work/got"
    cmp "$work/want" "$work/got" || die "values differ after $2"
}
leader_of() {
    cli --json status | tr '{' '\n' | sed -n "s/.*\"gid\": *$1,.*\"id\": *\([0-9]*\),.*\"role\": *\"leader\".*/\1/p" | awk 'NR == 1'
}

step "up"
cluster up --groups 2 --shards 16 >"$work/up"
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls

step "verbs and exit codes"
expect 0 cli put greeting hello
expect 0 cli get greeting
[ "$(cat "$work/out")" = hello ] || die "get printed $(cat "$work/out")"
expect 1 cli get nothing-here
expect 0 cli append greeting " world"
expect 0 cli cas greeting --expect "hello world" bye
expect 1 cli cas greeting --absent again
expect 0 cli del greeting
expect 1 cli del greeting
expect 2 cli put only-a-key
expect 2 cli no-such-verb
expect 3 cli leave 77
expect 3 cli --timeout 300 --ctrlers tcp://127.0.0.1:1 get x
expect 3 cli move 9999 1

step "pipe: any line is answered, in order, with or without servers"
printf '%s\n' '{"id":1,"op":"put","key":"p","arg":"v"}' 'garbage' '' '{"id":[2],"op":"get","key":"p"}' \
    '{"id":3,"op":"append","key":"p","arg":{"base64":"AP8="}}' '{"id":4,"op":"get","key":"p"}' \
    '{"id":5,"op":"cas","key":"p","arg2":"w"}' '{"id":6,"op":"delete","key":"p"}' \
    '{"id":7,"op":"cas","key":"p","arg2":"w"}' '{"id":8,"op":"delete","key":"p"}' '{"id":9,"op":"leave","gid":77}' |
    cli pipe | sed 's/,"err".*/}/' >"$work/got"
cat >"$work/want" <<'END'
{"id":1,"ok":true,"out":null}
{"id":null,"ok":false}
{"id":null,"ok":false}
{"id":[2],"ok":true,"out":"v"}
{"id":3,"ok":true,"out":3}
{"id":4,"ok":true,"out":{"base64":"dgD/"}}
{"id":5,"ok":true,"out":0}
{"id":6,"ok":true,"out":1}
{"id":7,"ok":true,"out":1}
{"id":8,"ok":true,"out":1}
{"id":9,"ok":false}
END
diff "$work/want" "$work/got" || die "pipe answered wrongly"
printf '%s\n' '{"id":1,"op":"put","key":"p","arg":"v"}' '{"id":2,"op":"get","key":"p"}' |
    cli --ctrlers tcp://127.0.0.1:1 --timeout 300 pipe >"$work/got"
[ "$(grep -c '"ok": *false' "$work/got")" = 2 ] || die "without servers, pipe answered $(cat "$work/got")"
expect 3 cli --ctrlers tcp://127.0.0.1:1 --timeout 300 bench --ops 3 --clients 3
expect 3 cli --ctrlers tcp://127.0.0.1:1 wait --timeout 300
expect 0 cli --ctrlers tcp://127.0.0.1:1 status

step "values of 16 MiB and binary data"
head -c $((16 << 20)) /dev/urandom >"$work/big"
expect 0 cli put big - <"$work/big"
cli get --raw big >"$work/big.out"
cmp "$work/big" "$work/big.out" || die "the large value came back different"
expect 3 cli append big x

step "write, then move shards while a client writes"
write_all 1
check_all 1 "the first write"
(for round in $(seq 50); do puts "moving-$round" 50; done | cli pipe >"$work/moving") &
writer_pid=$!
for shard in 1 2 3 4; do
    owner=$(cli --json config | sed 's/.*"shards": *\[\([^]]*\)\].*/\1/' | tr -d ' ' | cut -d, -f$((shard + 1)))
    expect 0 cli move "$shard" $((3 - owner))
done
expect 0 cli wait --shards --timeout 30000
wait "$writer_pid" || die "the writer failed"
writer_pid=
grep -v '"ok": *true' "$work/moving" && die "a write failed while shards moved"
[ "$(grep -c '"ok": *true' "$work/moving")" = 2500 ] || die "answers are missing"
write_all 2
check_all 2 "the moves"

step "a dry run tells the plan and changes nothing"
cli --json config >"$work/before"
first=$(sed 's/.*"shards": *\[\([0-9]*\).*/\1/' "$work/before")
expect 0 cli move 0 $((3 - first)) --dry-run
grep -q "from group $first to group $((3 - first)): shard 0, about" "$work/out" || die "move --dry-run printed $(cat "$work/out")"
expect 0 cli move 0 "$first" --dry-run
grep -q "nothing would change" "$work/out" || die "an empty move's dry run printed $(cat "$work/out")"
expect 0 cli --json leave --dry-run "$first"
grep -q '"dry_run":true.*"changes":true.*"sums":\[{"shards":[0-9]*,"from":'"$first" "$work/out" || die "leave --dry-run printed $(cat "$work/out")"
expect 0 cli join --dry-run 3 1=tcp://127.0.0.1:1
expect 3 cli join 1 "$spec_g1" --dry-run
expect 3 cli leave --dry-run 77
expect 3 cli move --dry-run 9999 1
expect 2 cli move --dry-run 0
expect 2 cli join --dry-run 3 nonsense
expect 3 cli --ctrlers tcp://127.0.0.1:1 --timeout 300 leave --dry-run 1
cli --json config | cmp - "$work/before" || die "a dry run changed the configuration"

step "moves pause and resume"
expect 0 cli moves pause
grep -q configuration "$work/out" || die "moves pause printed $(cat "$work/out")"
expect 0 cli --json config
cp "$work/out" "$work/paused"
grep -q '"moves_paused":true' "$work/paused" || die "config printed $(cat "$work/paused")"
expect 0 cli moves pause
cli --json config | cmp - "$work/paused" || die "pausing twice made a configuration"
expect 0 cli status
grep -q "moves are paused" "$work/out" || die "status printed $(cat "$work/out")"
expect 0 cli --json status
grep -q '"moves_paused":true' "$work/out" || die "status --json printed $(cat "$work/out")"
expect 0 cli moves
grep -q "moves are paused" "$work/out" || die "moves printed $(cat "$work/out")"
expect 2 cli moves stop
id=$(leader_of 0)
cluster kill "ctrl-$id"
printf '%s\n' '{"id":1,"op":"moves"}' '{"id":2,"op":"moves","paused":false}' | cli pipe >"$work/got"
grep -q '"id":1,"ok":false' "$work/got" || die "pipe answered $(cat "$work/got")"
grep -q '"id":2,"ok":true,"out":[0-9]' "$work/got" || die "pipe answered $(cat "$work/got")"
cluster restart "ctrl-$id"
expect 0 cli --json moves
grep -q '"moves_paused":false,"moves":\[' "$work/out" || die "moves --json printed $(cat "$work/out")"
expect 0 cli wait --shards --timeout 30000
[ ! -s "$work/err" ] || die "wait printed $(cat "$work/err")"

step "kill -9 each group's leader"
for gid in 0 1 2; do
    id=$(leader_of "$gid")
    [ -n "$id" ] || die "group $gid has no leader"
    node=g$gid-$id
    [ "$gid" != 0 ] || node=ctrl-$id
    cluster kill "$node"
    write_all "killed-$gid"
    check_all "killed-$gid" "the death of $node"
    cluster restart "$node"
done

step "a group leaves"
expect 0 cli leave 1
expect 0 cli wait --shards --timeout 60000
check_all killed-2 "the leave"
expect 0 cli join 1 "$spec_g1"
expect 0 cli wait --shards --timeout 60000

step "kill -9 everything, start again"
for node in ctrl-1 ctrl-2 ctrl-3 g1-1 g1-2 g1-3 g2-1 g2-2 g2-3; do cluster kill "$node"; done
cluster up --no-join >/dev/null
expect 0 cli wait --shards --timeout 60000
check_all killed-2 "the restart"
cli get --raw big | cmp - "$work/big" || die "the large value was lost"

step "a server refuses what is not its own"
cluster kill g1-1
expect 2 "$bin/shardkv" --gid 2 --id 1 --cluster "$spec_g2" --ctrlers "$ctrler_urls" --data "$dir/g1-1"
expect 2 "$bin/shardkv" --gid 1 --id 1 --cluster "$spec_g1" --ctrlers "$ctrler_urls" --data "$dir/g1-2"
expect 2 "$bin/shardkv" --gid 1 --id 1 --cluster "$spec_g1" --ctrlers nonsense --data "$dir/g1-1"
expect 2 "$bin/shardctrler" --id 1 --cluster "$spec_ctrl" --data "$work/other"
cluster restart g1-1

step "nothing but values of 16 MiB, one after the other"
cluster clean >/dev/null
cluster up --groups 1 >"$work/up"
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls
# To count what is there means to read some of them: meanwhile the leader must be heard.
"$bin/shardkv-cli" --json bench --clients 1 --connections 1 --keys 8 --value-bytes 16777216 --ops 10 >"$work/large"
grep -q '"errors": *0, *"unknown": *0' "$work/large" || die "puts of 16 MiB failed: $(cat "$work/large")"

say "e2e OK"
