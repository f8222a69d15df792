#!/usr/bin/env bash
# Replicas come and go, on real processes and under load: a group grows from 3 to 5, loses its leader
# by removal, has a replica with a wiped disk replaced and one with a damaged log rebuild itself; the
# controllers are replaced one by one while clients work; what would break a quorum is refused; and a
# group that lost its majority for good is recovered, and so are the controllers. No client sees an error where none is due, and
# all data is there in the end.
# Usage: tests/cluster/replica_test.sh   (after a build; less than a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-replica.XXXXXX")
declare -A pids=()
load_pid=
cleanup() {
    local code=$? name
    exec 2>/dev/null # of what is killed here, the shell would tell
    touch "$work/enough" # the load's requests end, and with them its client
    for name in "${!pids[@]}"; do
        kill -9 "${pids[$name]}" 2>/dev/null || true
    done
    if [ "$code" -ne 0 ]; then
        say "--- last traces of each server"
        tail -n 20 "$work"/*.log || true
    fi
    wait 2>/dev/null || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

began=$SECONDS
step() {
    say "== [$((SECONDS - began)) s] $*"
}
cli() {
    "$bin/shardkv-cli" --ctrlers "$ctrlers" --timeout 20000 "$@"
}

# ---- Servers ----

base=$(free_port_range 20)
url() { # NAME: c1..c6 are controllers, r1..r7 replicas of group 1
    case $1 in
    c*) echo "tcp://127.0.0.1:$((base + ${1#c}))" ;;
    r*) echo "tcp://127.0.0.1:$((base + 10 + ${1#r}))" ;;
    esac
}
spec() { # NAME...
    local name text=
    for name in "$@"; do
        text="$text${text:+,}${name#?}=$(url "$name")"
    done
    echo "$text"
}
# start NAME SPEC [OPTION...]
start() {
    local name=$1 spec=$2 ready
    shift 2
    case $name in
    c*) set -- "$bin/shardctrler" --shards 16 "$@" ;;
    r*) set -- "$bin/shardkv" --gid 1 --ctrlers "$ctrlers" "$@" ;;
    esac
    : >"$work/$name.ready"
    "$@" --id "${name#?}" --cluster "$spec" --data "$work/$name" >"$work/$name.ready" 2>>"$work/$name.log" &
    pids[$name]=$!
    for ((ready = 0; ready < 150; ready++)); do
        grep -q ^ready "$work/$name.ready" && return 0
        kill -0 "${pids[$name]}" 2>/dev/null || return 1
        sleep 0.1
    done
    die "$name did not start"
}
stop() { # NAME [SIGNAL]
    kill "-${2:-TERM}" "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}
leader() { # GID: the id of its leader
    local id try
    for ((try = 0; try < 100; try++)); do
        id=$(cli --json replica list "$1" 2>/dev/null | tr '{' '\n' | sed -n 's/.*"id": *\([0-9]*\),.*"leader": *true.*/\1/p' | head -n 1)
        [ -z "$id" ] || { echo "$id"; return 0; }
        sleep 0.1
    done
    die "group $1 has no leader"
}
voters() { # GID: how many vote
    cli --json replica list "$1" | grep -o '"role":"voter"' | wc -l
}
replicas_listed() { # how many replicas the configuration lists for group 1
    cli --json config | sed 's/.*"groups"://; s/"moves_paused".*//' | grep -o tcp: | wc -l
}

# ---- Load: one client for the whole test, whose requests and replies are kept ----

load() {
    local i=0
    while [ ! -e "$work/enough" ]; do
        i=$((i + 1))
        printf '{"id":%d,"op":"put","key":"key-%d","arg":"value-%d"}\n' "$i" "$i" "$i"
        sleep 0.01
    done | cli pipe >"$work/replies"
}
replies() {
    wc -l <"$work/replies"
}
# The load goes on: it is answered within a few seconds.
check_load() {
    local before now try
    before=$(replies)
    for ((try = 0; try < 100; try++)); do
        now=$(replies)
        [ "$now" -le $((before + 20)) ] || return 0
        sleep 0.1
    done
    die "the load stands still after $1"
}
check_replies() {
    grep -v '"ok":true' "$work/replies" >"$work/bad" || true
    [ ! -s "$work/bad" ] || { head -n 5 "$work/bad"; die "the client saw errors"; }
}
check_data() {
    local n
    n=$(replies)
    seq "$n" | awk '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"key-%d\"}\n", $1, $1 }' | cli pipe |
        sed -n 's/.*"out": *"\([^"]*\)".*/\1/p' >"$work/got"
    seq "$n" | sed 's/^/value-/' >"$work/want"
    cmp "$work/want" "$work/got" || die "values differ $1"
    say "   $n values are there"
}

step "up: three controllers, a group of three"
ctrlers=$(url c1),$(url c2),$(url c3)
for name in c1 c2 c3; do start "$name" "$(spec c1 c2 c3)"; done
for name in r1 r2 r3; do start "$name" "$(spec r1 r2 r3)"; done
expect 0 cli wait
expect 0 cli join 1 "$(spec r1 r2 r3)"
expect 0 cli wait --shards
load &
load_pid=$!

step "grow from 3 to 5 under load"
start r4 "$(spec r1 r4)" --join
expect 0 cli replica add 1 4="$(url r4)"
start r5 "$(spec r2 r5)" --join
expect 0 cli replica add 1 5="$(url r5)"
[ "$(voters 1)" = 5 ] || die "group 1 has $(voters 1) voters"
[ "$(replicas_listed)" = 5 ] || die "the configuration lists $(replicas_listed) replicas"
expect 0 cli replica add 1 5="$(url r5)"
expect 3 cli replica add 1 5="$(url r6)"
expect 4 cli --timeout 1500 replica add 1 7="$(url r7)" # nobody is there to become a voter
grep -q 'added, but' "$work/err" || die "it is not said that the replica was added"
expect 0 cli replica remove 1 7
expect 2 cli replica add 1 6
expect 2 cli replica add 1 0="$(url r6)"
check_load "growing"

step "remove the leader under load"
gone=$(leader 1)
expect 0 cli replica remove 1 "$gone"
expect 0 cli replica remove 1 "$gone"
[ "$(leader 1)" != "$gone" ] || die "the removed replica leads"
[ "$(replicas_listed)" = 4 ] || die "the configuration lists $(replicas_listed) replicas"
stop "r$gone"
check_load "the leader's removal"

step "replace a replica that was killed and lost its disk"
dead=$(leader 1)
stop "r$dead" KILL
rm -rf "$work/r$dead"
member=$(leader 1)
start "r$dead" "$(spec "r$member" "r$dead")" --join
expect 0 cli replica replace 1 "$dead=$(url "r$dead")"
expect 0 cli replica replace 1 "$dead=$(url "r$dead")"
[ "$(voters 1)" = 4 ] || die "group 1 has $(voters 1) voters"
expect 4 cli replica replace 1 "$dead=$(url "r$member")" # removed; the other's URL is refused
grep -q 'removed but not added' "$work/err" || die "it is not said that the replica was removed"
[ "$(voters 1)" = 3 ] || die "group 1 has $(voters 1) voters"
stop "r$dead"
rm -rf "$work/r$dead"
start "r$dead" "$(spec "r$member" "r$dead")" --join
expect 0 cli replica replace 1 "$dead=$(url "r$dead")"
[ "$(voters 1)" = 4 ] || die "group 1 has $(voters 1) voters"
check_load "the replacement"

step "a replica with a damaged log refuses to start, names --rebuild, and rebuilds itself with it"
for damaged in 1 2 3 4 5; do
    [ "$damaged" != "$(leader 1)" ] && [ "$damaged" != "$gone" ] && [ "$damaged" != "$dead" ] && break
done
stop "r$damaged" KILL
segment=$(find "$work/r$damaged/wal" -name '*.wal' | sort | head -n 1)
dd if=/dev/urandom of="$segment" bs=1 seek=600 count=64 conv=notrunc status=none
member=$(leader 1)
code=0
start "r$damaged" "$(spec "r$member" "r$damaged")" || code=$?
[ "$code" = 1 ] || die "a damaged replica started"
wait "${pids[r$damaged]}" || code=$?
[ "$code" = 3 ] || die "a damaged replica ended with $code"
grep -q -- --rebuild "$work/r$damaged.log" || die "--rebuild is not named"
start "r$damaged" "$(spec "r$member" "r$damaged")" --rebuild
for ((try = 0; try < 200; try++)); do
    ! grep -q 'rebuild: done' "$work/r$damaged.log" || break
    sleep 0.1
done
grep -q 'rebuild: done' "$work/r$damaged.log" || die "r$damaged did not rebuild itself"
[ -d "$work/r$damaged.damaged-1/wal" ] || die "the damaged data is not there any more"
[ "$(voters 1)" = 4 ] || die "group 1 has $(voters 1) voters"
stop "r$damaged"
start "r$damaged" "$(spec "r$member" "r$damaged")" --rebuild
[ ! -e "$work/r$damaged.damaged-2" ] || die "whole data was set aside"
check_load "the rebuild"

step "replace the controllers one by one while clients work"
for i in 1 2 3; do
    new=c$((i + 3))
    start "$new" "$(spec "$new" c3)" --join
    ctrlers=$(url "c$i"),$(url "$new")
    expect 0 cli replica add 0 "$((i + 3))=$(url "$new")"
    expect 0 cli replica remove 0 "$i"
    stop "c$i"
    check_load "the replacement of controller $i"
done
ctrlers=$(url c5)
expect 0 cli status
[ "$(grep -c '^0 ' "$work/out")" = 3 ] || { cat "$work/out"; die "status does not show three controllers"; }
expect 0 cli moves pause
expect 0 cli moves resume
check_load "the controllers' replacement"

step "what would break the quorum is refused"
lead=$(leader 1)
others=()
for i in 1 2 3 4 5; do
    [ "$i" = "$gone" ] || [ "$i" = "$lead" ] || others+=("$i")
done
stop "r${others[0]}" KILL
expect 0 cli replica remove 1 "${others[0]}"
lead=$(leader 1)
others=()
for i in $(cli --json replica list 1 | grep -o '"id":[0-9]*' | sed 's/.*://'); do
    [ "$i" = "$lead" ] || others+=("$i")
done
[ "${#others[@]}" = 2 ] || die "there are ${#others[@]} others"
kill -STOP "${pids[r${others[0]}]}"
sleep 1
expect 3 cli replica remove 1 "${others[1]}"
kill -CONT "${pids[r${others[0]}]}"
check_load "the refusal"

step "the load ends without an error"
touch "$work/enough"
wait "$load_pid" || die "the load failed"
load_pid=
check_replies
check_data "at the end of the load"

step "recover a group that lost its majority for good"
survivor=${others[0]}
expect 3 cli replica recover 1 "$survivor" --yes # a majority answers
stop "r$lead" KILL
stop "r${others[1]}" KILL
rm -rf "$work/r$lead" "$work/r${others[1]}"
expect 3 cli --timeout 1000 get key-1
expect 0 cli replica recover 1 "$survivor" --dry-run
grep -q "not heard from" "$work/out" || die "the dry run does not say who is silent"
expect 3 cli replica recover 1 "$survivor" </dev/null # not confirmed
for i in "$lead" "${others[1]}"; do # replicas without their data are no majority
    start "r$i" "$(spec "r$survivor" "r$i")" --rebuild
done
expect 0 cli replica recover 1 "$survivor" --dry-run
[ "$(grep -c "answers without its data" "$work/out")" = 2 ] || die "the dry run does not say who lost its data"
for i in "$lead" "${others[1]}"; do
    stop "r$i" KILL
    rm -rf "$work/r$i"
done
expect 0 cli replica recover 1 "$survivor" --yes </dev/null
expect 0 cli put after recovery
start "r$lead" "$(spec "r$survivor" "r$lead")" --join
expect 0 cli replica add 1 "$lead=$(url "r$lead")"
[ "$(voters 1)" = 2 ] || die "group 1 has $(voters 1) voters"
check_data "after the recovery"

step "recover the controllers that lost their majority for good, and grow back to three"
survivor=$(leader 0)
others=()
for i in 4 5 6; do
    [ "$i" = "$survivor" ] || others+=("$i")
done
num=$(cli --json config | grep -o '"num":[0-9]*' | sed 's/.*://')
stop "c${others[0]}" KILL
stop "c${others[1]}" KILL
rm -rf "$work/c${others[0]}" "$work/c${others[1]}"
ctrlers=$(url "c$survivor")
expect 3 cli --timeout 1000 moves pause
expect 0 cli replica recover 0 "$survivor" --dry-run
[ "$(grep -c "not heard from" "$work/out")" -ge 2 ] || die "the dry run does not say who is silent"
expect 0 cli replica recover 0 "$survivor" --yes </dev/null
expect 0 cli moves pause
expect 0 cli moves resume
[ "$(cli --json config | grep -o '"num":[0-9]*' | sed 's/.*://')" -ge "$num" ] || die "configurations were lost"
for i in "${others[@]}"; do
    start "c$i" "$(spec "c$survivor" "c$i")" --join
    expect 0 cli replica add 0 "$i=$(url "c$i")"
done
[ "$(voters 0)" = 3 ] || die "there are $(voters 0) controllers"
stop "c$survivor" KILL # the new ones know all that it knew
ctrlers=$(url "c${others[0]}"),$(url "c${others[1]}")
expect 0 cli moves pause
expect 0 cli moves resume
expect 0 cli wait --shards
check_data "after the controllers' recovery"

step "all went well"
