#!/usr/bin/env bash
# Moves a large shard between groups of real processes while clients work, and tells what they saw.
# usage(), below, says all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'END'
usage: scripts/migration-test.sh [options]
Starts controllers and two groups of three replicas as processes of their own, fills one shard, loads the
cluster, moves the shard, lets a group leave, lets a third one join; then reads everything back.

  --gib G | --mib M        the size of the big shard (default: --gib 1)
  --value-bytes N          of each value (default 1024)
  --runs N                 moves of the big shard under load, back and forth (default 5)
  --kill                   afterwards the same with kill -9 of leaders (of the source, the target, the
                           controllers) in the middle of moves, a leave and a join
  --compare-sizes A,B,...  only moves, with shards of A, B, ... MiB, each in a cluster of its own: the pause
                           against the size
  --moves-only             only the moves, no leave and no join
  --small                  a quick look (under a minute): 16 MiB, one move, short phases
  --ctrlers N              controllers (default 1: on two cores each process more is felt)
  --shards N               (default 16)
  --seconds S              of each phase before and after a change (default 10)
  --residue-seconds S      from the end of the leave until its source's database is looked at (default 30)
  --rate N                 operations per second (default: half of the peak that it measures at the start)
  --max-rate N             that half, but not more than N
  --read-percent N         reads among them (default 50)
  --moving-percent N       share of the big shard (default 25, but at least 1000 operations per second, if
                           that leaves the others a quarter)
  --timeout MS             of each operation (default 5000, the library's own)
  --json FILE              writes all figures there, as one JSON document
  --check-speed            a missed aim of speed is a failure too
  --dir DIR                where the cluster's data goes (default: a new folder in TMPDIR or /tmp); it is
                           deleted at the end, the traces of servers are kept only if the test failed
  --help

What is measured, all from the clients' records:
  pause      the longest time between two successive successes on the big shard. Operations arrive there at a
             steady interval that the report names (1 ms or less, if the machine bears it), whatever the
             service does; their latency counts from when they were due. The interval is not taken off, so
             without any pause the figure is a little above it: compare with the phases before.
  copy rate  bytes of the shard, divided by the time from asking for the move until its new owner serves it
             (looked at every 20 ms); "idle" means without load. It is compared with the rate of the fill,
             which puts 16 keys in each transaction and keeps 32 of those outstanding.
  memory     of each process, at rest after the fill, and the most afterwards: resident (VmHWM, which counts
             mapped files) and anonymous (sampled every 100 ms).
  left bytes what the database files of the group that left still hold of the values, in all replicas, some
             time after the end of the leave. The Raft log does not count.
Exit code 0: every acknowledged write was there in the end, no token was missing, doubled or out of order, no
read was stale, and no operation failed or had an unknown end in a phase without faults. Aims of speed are
only told, unless --check-speed is given. 1: not so. 2: could not be run.
END
}

# ---- Options

mib=1024 value_bytes=1024 runs=5 kill=0 sizes= leave_join=1 ctrlers=1 shards=16 seconds=10
residue_seconds=30 rate= max_rate= read_percent=50 moving_percent=25 timeout=5000 json= check_speed=0 work= peak_seconds=4

refuse() {
    say "migration-test.sh: $*" >&2
    exit 2
}
is_number() {
    [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || refuse "$1 wants a positive number, not '$2'"
}
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --kill) kill=1; shift; continue ;;
    --moves-only) leave_join=0; shift; continue ;;
    --check-speed) check_speed=1; shift; continue ;;
    --small) mib=16 runs=1 seconds=2 residue_seconds=10 peak_seconds=2; shift; continue ;;
    esac
    [ $# -ge 2 ] || refuse "$1: unknown, or its value is missing (see --help)"
    case $1 in
    --json) json=$2 ;;
    --dir) work=$2 ;;
    --compare-sizes) sizes=${2//,/ }; for size in $sizes; do is_number "$1" "$size"; done ;;
    --read-percent) read_percent=$2 ;;
    *) is_number "$1" "$2" ;;&
    --gib) mib=$((1024 * $2)) ;;
    --mib) mib=$2 ;;
    --value-bytes) value_bytes=$2 ;;
    --runs) runs=$2 ;;
    --ctrlers) ctrlers=$2 ;;
    --shards) shards=$2 ;;
    --seconds) seconds=$2 ;;
    --residue-seconds) residue_seconds=$2 ;;
    --rate) rate=$2 ;;
    --max-rate) max_rate=$2 ;;
    --moving-percent) moving_percent=$2 ;;
    --timeout) timeout=$2 ;;
    --read-percent | --json | --dir | --compare-sizes) ;;
    *) refuse "$1: unknown (see --help)" ;;
    esac
    shift 2
done
[ -z "$sizes" ] || leave_join=0
[ -z "$json" ] || : >"$json" || refuse "$json can't be written"

# ---- Surroundings: programs, a folder, space, and an end that leaves nothing behind

[ -x "$bin/shardkv" ] && [ -x "$build/tests/move_load" ] || build_all
if [ -n "$work" ]; then
    mkdir -p "$work"
    work=$(cd "$work" && mktemp -d "$PWD/run.XXXXXX")
else
    work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-migration.XXXXXX")
fi
dir=$work/cluster
load_pid=
cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
stop_all() {
    if [ -n "$load_pid" ] && [ -d "/proc/$load_pid" ]; then
        kill -KILL "$load_pid" 2>/dev/null || true
    fi
    load_pid=
    cluster clean >/dev/null 2>&1 || true
}
cleanup() {
    local code=$?
    trap - EXIT INT TERM HUP
    if [ "$code" = 1 ] && ls "$dir"/*.log >/dev/null 2>&1; then
        mkdir -p "$work.traces"
        cp "$dir"/*.log "$dir"/*.out "$work"/*.err "$work.traces" 2>/dev/null || true
        say "the servers' traces are in $work.traces" >&2
    fi
    stop_all
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A log of 128 MiB for each process; the shard at each of nine replicas, and once more while LevelDB
# compacts or before a dropped one is gone.
check_space() {
    local largest=0 size needed available
    for size in ${sizes:-$mib}; do [ "$size" -le "$largest" ] || largest=$size; done
    needed=$(((ctrlers + 9) * 192 + 9 * 2 * largest + 512))
    available=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
    [ "$available" -ge "$needed" ] ||
        refuse "$work has $available MiB of free space, a shard of $largest MiB needs $needed MiB: choose --dir or a smaller size"
}
check_space

# ---- The load program, a co-process that answers each line with one

cli() {
    "$bin/shardkv-cli" --timeout 30000 "$@"
}
start_load() {
    coproc LOAD { exec "$build/tests/move_load" --ctrlers "$ctrler_urls" --processes "$dir" --bytes $(($1 << 20)) \
        --value-bytes "$value_bytes" --timeout "$timeout" --read-percent "$read_percent" \
        --moving-percent "$moving_percent" 2>>"$work/load.err"; }
    # shellcheck disable=SC2153
    load_pid=$LOAD_PID
    exec {to_load}>&"${LOAD[1]}" {from_load}<&"${LOAD[0]}"
    answer
}
# The answer to the last line: without its "ok" in $reply.
answer() {
    reply=
    IFS= read -r reply <&"$from_load" || die "the load program ended: $(tail -n 3 "$work/load.err")"
    case $reply in
    ok*) reply=${reply#ok} reply=${reply# } ;;
    *) die "the load program: $reply $(tail -n 3 "$work/load.err")" ;;
    esac
}
ask() {
    printf '%s\n' "$*" >&"$to_load"
    answer
}
# The value of NAME=… in the last answer.
field() {
    sed -n "s/.*\(^\| \)$1=\([^ ]*\).*/\2/p" <<<"$reply"
}
end_load() {
    printf 'quit\n' >&"$to_load"
    exec {to_load}>&- {from_load}<&-
    wait "$load_pid" || die "the load program: $(tail -n 3 "$work/load.err")"
    load_pid=
}

# ---- Steps

step() {
    printf '== %4d s  %s\n' "$SECONDS" "$*"
}
rest_of_phase() {
    sleep "$seconds"
}
# Changes the configuration and waits: change NAME move GID | leave GID | join GID SPEC
change() {
    ask change "$@"
    ask await 1800
    printf '             %s: %s\n' "$1" "$reply"
}
# Sets $owner, and leader_0, leader_1, ... (empty: none).
look() {
    local pair
    leader_0='' leader_1='' leader_2='' leader_3=''
    ask owner
    for pair in $reply; do
        printf -v "${pair%%=*}" '%s' "${pair#*=}"
    done
}
# A member group that does not own the big shard.
other_group() {
    local gid
    for gid in $members; do
        [ "$gid" = "$owner" ] || { echo "$gid"; return; }
    done
}
# The node that leads a group; waits for one.
leader_node() {
    local variable=leader_$1 i
    for ((i = 0; i < 100; i++)); do
        look
        [ -z "${!variable}" ] || break
        sleep 0.1
    done
    [ -n "${!variable}" ] || die "group $1 has no leader"
    if [ "$1" = 0 ]; then echo "ctrl-${!variable}"; else echo "g$1-${!variable}"; fi
}

start_cluster() {
    local n
    cluster up --groups 3 --ctrlers "$ctrlers" --shards "$shards" --no-join >/dev/null
    # shellcheck disable=SC1091
    source "$dir/cluster.env"
    export SHARDKV_CTRLERS=$ctrler_urls
    for n in 1 2 3; do cluster stop "g3-$n"; done # it joins later
    cli join 1 "$spec_g1" 2 "$spec_g2" >/dev/null
    cli wait --shards --timeout 60000 >/dev/null
    members="1 2"
}
# The bytes of values in the files of a group's databases, all replicas together.
bytes_in_databases() {
    local marks
    marks=$( (grep -rhaoF 'mvload|' "$dir/g$1"-*/state || true) | wc -l)
    echo $((marks * value_bytes))
}

fill_and_move_idle() {
    step "fill one shard with $1 MiB"
    ask fill
    say "             $reply"
    sleep $((seconds < 5 ? seconds : 5))
    ask rest
    look
    step "move it without load"
    change idle-move move "$(other_group)"
}
begin_load() {
    step "measure the peak, then load at half of it"
    ask peak "$peak_seconds"
    say "             peak: $reply"
    if [ -z "$rate" ] && [ -n "$max_rate" ]; then
        rate=$(awk -F= -v most="$max_rate" '{ half = $2 / 2; print half < most ? half : most }' <<<"$reply")
    fi
    sleep 1
    ask tokens
    ask start "$rate"
    say "             load: $reply"
    sleep 1
}
move_back_and_forth() {
    local run
    for ((run = 1; run <= runs; run++)); do
        look
        step "move $run of $runs, from group $owner"
        ask phase "before move-$run"
        rest_of_phase
        change "move-$run" move "$(other_group)"
        rest_of_phase
    done
}

# leave_group NAME: the big shard's owner leaves; notes what its databases hold then and later.
leave_group() {
    local began
    look
    step "group $owner leaves"
    left=$owner
    ask phase "before $1"
    rest_of_phase
    held_bytes=$(bytes_in_databases "$left")
    change "$1" leave "$left"
    began=$SECONDS
    members=$(tr ' ' '\n' <<<"$members" | grep -vx "$left" | xargs)
    say "             $(bytes_in_databases "$left") bytes of its shards in its databases at the end of the leave"
    rest_of_phase
    while [ $((SECONDS - began)) -lt "$residue_seconds" ]; do sleep 0.2; done
    left_bytes=$(bytes_in_databases "$left")
    say "             $left_bytes bytes $((SECONDS - began)) s later; $held_bytes before it"
    # A value is in the Raft log in any case: if it can't be found there, looking is broken.
    grep -rqaoF 'mvload|' "$dir/g$left"-* || die "no value is to be found in any file of group $left"
}
# join_group NAME GID
join_group() {
    local spec=spec_g$2 n
    step "group $2 joins"
    ask phase "before $1"
    for n in 1 2 3; do cluster restart "g$2-$n"; done
    rest_of_phase
    change "$1" join "$2" "${!spec}"
    members="$members $2"
    rest_of_phase
}

# ---- With kill -9

# Kills the leaders of the groups one after the other while a change is under way, each DELAY seconds after
# the last, and starts them again a second later; then waits for the end.
# change_and_kill NAME "GID..." DELAY VERB ARGS...
change_and_kill() {
    local name=$1 victims=$2 delay=$3 gid node nodes=
    shift 3
    for gid in $victims; do nodes="$nodes $(leader_node "$gid")"; done
    ask phase "before $name"
    rest_of_phase
    ask faults on
    ask change "$name" "$@"
    for node in $nodes; do
        sleep "$delay"
        cluster kill "$node"
        say "             killed $node"
    done
    sleep 1
    for node in $nodes; do cluster restart "$node"; done
    ask await 1800
    say "             $name: $reply"
    rest_of_phase
    ask faults off
}
# The controllers can only lose one if there are three; a single one is killed all the same and comes back.
with_kills() {
    local delay target
    ask phase "kills"
    delay=$(awk -v s="$idle_seconds" 'BEGIN { d = s / 3; print (d < 0.05 ? 0.05 : (d > 20 ? 20 : d)) }')
    look && target=$(other_group)
    step "move, the leader of the source is killed"
    change_and_kill kill-source "$owner" "$delay" move "$target"
    look && target=$(other_group)
    step "move, the leader of the target is killed"
    change_and_kill kill-target "$target" "$delay" move "$target"
    look && target=$(other_group)
    step "move, the leader of the controllers is killed"
    change_and_kill kill-controller 0 "$delay" move "$target"
    look && target=$(other_group)
    step "move, all three leaders are killed"
    change_and_kill kill-all "$owner $target 0" "$delay" move "$target"
    [ "$leave_join" = 1 ] || return 0
    look && target=$(other_group)
    step "group $owner leaves, the leaders are killed"
    left=$owner
    change_and_kill kill-leave "$owner $target 0" "$delay" leave "$left"
    step "group $left joins again, the leaders are killed"
    target="spec_g$left"
    change_and_kill kill-join "$left $(tr ' ' '\n' <<<"$members" | grep -vx "$left") 0" "$delay" join "$left" "${!target}"
}

# ---- A whole run in one cluster: run_one MIB JSON-FILE; $right and $speed say how it ended

run_one() {
    step "start $ctrlers controllers and 2 groups of 3, $shards shards"
    start_cluster
    start_load "$1"
    fill_and_move_idle "$1"
    idle_seconds=$(field served_s)
    begin_load
    move_back_and_forth
    if [ "$leave_join" = 1 ]; then
        leave_group leave
        ask note held_before_leave_bytes "$held_bytes"
        # A small shard may never have got as far as the databases: then nothing was measured.
        [ $((held_bytes + left_bytes)) -eq 0 ] || ask note left_bytes "$left_bytes"
        ask note left_after_seconds "$residue_seconds"
        join_group join 3
    fi
    [ "$kill" = 0 ] || with_kills
    step "read everything back"
    ask stop
    ask check
    say "             $reply"
    ask note ctrlers "$ctrlers"
    ask note cores "$(nproc)"
    ask report "$work/table" "$2"
    right=$(field right) speed=$(field speed)
    say ""
    cat "$work/table"
    cp "$work/table" "$work/table-$1"
    end_load
    stop_all
}

all_right=1 all_speed=1
if [ -z "$sizes" ]; then
    run_one "$mib" "$work/figures.json"
    all_right=$right all_speed=$speed
    [ -z "$json" ] || cp "$work/figures.json" "$json"
else
    for size in $sizes; do
        run_one "$size" "$work/figures-$size.json"
        [ "$right" = 1 ] || all_right=0
        [ "$speed" = 1 ] || all_speed=0
        say ""
    done
    documents=
    say "pause against size"
    printf '%8s %12s %12s\n' MiB 'median ms' 'worst ms'
    for size in $sizes; do
        awk -v size="$size" '/^pause of a move, median/ { m = $(NF - 1) } /^pause of a move, worst/ { w = $(NF - 1) }
            END { printf "%8s %12s %12s\n", size, m, w }' "$work/table-$size"
        documents="$documents${documents:+,}$(cat "$work/figures-$size.json")"
    done
    [ -z "$json" ] || printf '{"sizes":[%s]}\n' "$documents" >"$json"
fi

say ""
[ "$all_speed" = 1 ] || say "aims of speed were missed"
[ "$all_right" = 1 ] || die "something was lost, doubled, refused or not over: see WRONG above"
[ "$check_speed" = 0 ] || [ "$all_speed" = 1 ] || die "aims of speed were missed"
say "migration test OK after $SECONDS s"
