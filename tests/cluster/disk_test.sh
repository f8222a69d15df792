#!/usr/bin/env bash
# Disks of real processes: full, failing, stalled, without power. Each replica has an ext4 image of its
# own, in a mount namespace that goes away with the test. Clients write all the while, and in the end
# every acknowledged write is there, and none that was refused.
# Usage: tests/cluster/disk_test.sh [PART...]   (after a build; under a minute; needs root)
# Parts: full, move, errors, stall, power, damage; default: all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
PATH=$PATH:/sbin:/usr/sbin

skip() {
    say "skipped: $*"
    exit 77
}
if [ "${DISK_TEST_INSIDE:-}" != 1 ]; then
    [ "$(id -u)" = 0 ] || skip "needs root, for loop devices"
    command -v mkfs.ext4 >/dev/null || skip "needs mkfs.ext4"
    unshare -m true 2>/dev/null || skip "needs mount namespaces"
    DISK_TEST_INSIDE=1 exec unshare -m --propagation private "${BASH_SOURCE[0]}" "$@"
fi
[ $# -gt 0 ] || set -- full move errors stall power damage

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-disk.XXXXXX")
dir=$work/cluster
nodes="g1-1 g1-2 g1-3 g2-1 g2-2 g2-3"
image_mib=192
background=()

cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
# The same, with servers whose syncs can be made to fail.
cluster_shimmed() {
    LD_PRELOAD=$build/tests/libdisk_shim.so ASAN_OPTIONS=verify_asan_link_order=0 cluster "$@"
}
cleanup() {
    local code=$? pid
    touch "$work/stop" "$work/sated"
    rm -f "$dir"/*.hang
    if [ "$code" -ne 0 ] && [ "$code" -ne 77 ]; then
        say "--- last traces of each server"
        tail -n 25 "$dir"/*.log 2>/dev/null || true
    fi
    cluster clean >/dev/null 2>&1 || true
    for pid in "${background[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    for node in $nodes; do umount -l "$dir/$node" 2>/dev/null || true; done
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
: >"$work/err"

step() {
    say "== $*"
}
cli() {
    "$bin/shardkv-cli" --timeout 10000 "$@"
}
now_ms() {
    echo "${EPOCHREALTIME/./}" | cut -c-13
}
# until SECONDS WHAT COMMAND...: tries until it succeeds.
until_true() {
    local end=$(($(now_ms) + $1 * 1000)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$end" ] || { cat "$work/err" >&2; die "not in time: $what"; }
        sleep 0.05
    done
}
leader_of() {
    cli --json status | tr '{' '\n' | sed -n "s/.*\"gid\": *$1,.*\"id\": *\([0-9]*\),.*\"role\": *\"leader\".*/\1/p" | awk 'NR == 1'
}
leads_another() {
    local id
    id=$(leader_of "$1")
    [ -n "$id" ] && [ "$id" != "$2" ]
}
pid_of() {
    cat "$dir/$1.pid"
}
is_gone() {
    ! grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null # who started it may reap it late
}

# ---- Images

mount_image() {
    # noauto_da_alloc: ext4 shall not be kinder than it must to a rename without a sync.
    mount -t ext4 -o loop,noauto_da_alloc "$work/$1.img" "$dir/$1"
}
make_image() {
    truncate -s "${image_mib}M" "$work/$1.img"
    mkfs.ext4 -q -F -m 0 "$work/$1.img"
    mkdir -p "$dir/$1"
    mount_image "$1" || skip "needs loop devices with ext4"
    rmdir "$dir/$1/lost+found"
}
# Takes every block there is.
fill() {
    local at=$dir/$1/filler.$RANDOM$RANDOM room
    room=$(stat -f -c '%f * %S' "$dir/$1")
    fallocate -l $((room)) "$at" 2>/dev/null || true
    dd if=/dev/zero of="$at.rest" bs=64K 2>/dev/null || true
}
# Takes every block that there is or comes, until there is a file $work/sated.
hog() {
    while [ ! -e "$work/sated" ]; do
        fill "$1"
        sleep 0.1
    done
}
begin_hog() {
    rm -f "$work/sated"
    hog "$1" &
    hogs+=("$!")
}
hogs=()
end_hogs() {
    local pid
    touch "$work/sated"
    for pid in "${hogs[@]}"; do wait "$pid" || true; done
    hogs=()
    for node in "$@"; do rm -f "$dir/$node"/filler.*; done
}

# ---- Clients with a history: LOG has, for each write, when it was answered and how.

# begin_writer NAME [BYTES [TIMEOUT]]: puts NAME-i = v-i-... for i = 1.. until end_writer.
begin_writer() {
    rm -f "$work/stop"
    write_on "$@" &
    writers+=("$!")
    background+=("$!")
}
writers=()
write_on() {
    local name=$1 bytes=${2:-100} timeout=${3:-500} i=0 pad reply
    pad=$(head -c "$bytes" /dev/zero | tr '\0' x)
    mkfifo "$work/$name.in" "$work/$name.out"
    "$bin/shardkv-cli" --timeout "$timeout" pipe <"$work/$name.in" >"$work/$name.out" 2>/dev/null &
    exec 3>"$work/$name.in" 4<"$work/$name.out"
    while [ ! -e "$work/stop" ]; do
        i=$((i + 1))
        printf '{"id":%d,"op":"put","key":"%s-%d","arg":"v-%d-%s"}\n' "$i" "$name" "$i" "$i" "$pad" >&3
        read -r reply <&4 || break
        echo "${EPOCHREALTIME/./} $reply" >>"$work/$name.log"
    done
    exec 3>&- 4<&-
    wait
}
end_writers() {
    local pid
    touch "$work/stop"
    for pid in "${writers[@]}"; do wait "$pid" || true; done
    writers=()
}
count() {
    grep -c "\"ok\": *$2" "$work/$1.log" || true
}
# The longest time, in ms, between two successes of a writer.
longest_gap_ms() {
    awk '/"ok": *true/ { if (last && $1 - last > gap) gap = $1 - last; last = $1 } END { printf "%d\n", gap / 1000 }' "$work/$1.log"
}
# Every write of the history is there if it was acknowledged, and is not if it was refused.
check_writer() {
    local name=$1 n
    n=$(wc -l <"$work/$name.log")
    [ "$(count "$name" true)" -gt 0 ] || die "$name wrote nothing"
    seq "$n" | awk -v name="$name" '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"%s-%d\"}\n", $1, name, $1 }' |
        cli pipe | cut -c-60 >"$work/$name.found"
    cut -d' ' -f2- "$work/$name.log" | cut -c-40 | paste -d'|' - "$work/$name.found" | awk -F'|' -v name="$name" '
        { there = index($2, "\"out\":\"v-" NR "-") > 0; absent = index($2, "\"out\":null") > 0 }
        !there && !absent { print name "-" NR " could not be read: " $2; bad = 1 }
        $1 ~ /"ok": *true/ && !there { print name "-" NR " was acknowledged and is lost: " $2; bad = 1 }
        $1 ~ /"ok": *false/ && !absent { print name "-" NR " was refused and is there: " $2; bad = 1 }
        END { exit bad }' >"$work/$name.wrong" || { head -n 5 "$work/$name.wrong"; die "the history of $name does not hold"; }
    say "   $name: $(count "$name" true) acknowledged, $(count "$name" false) refused, $(count "$name" '"unknown"') unknown"
}

# ---- Stories

part_full() {
    local id code

    step "a full follower: the group goes on"
    id=$(leader_of 1)
    begin_writer follower 4000
    fill "g1-$((id % 3 + 1))"
    sleep 1
    [ "$(leader_of 1)" = "$id" ] || die "the leader changed"
    end_writers
    [ "$(longest_gap_ms follower)" -lt 1500 ] || die "writes paused for $(longest_gap_ms follower) ms"
    rm -f "$dir"/g1-*/filler.*
    check_writer follower

    step "a full leader: another one leads, in no time"
    id=$(leader_of 1)
    begin_writer leader 4000
    sleep 0.3
    begin_hog "g1-$id"
    until_true 3 "leadership moves away" leads_another 1 "$id"
    sleep 1
    end_writers
    say "   longest pause $(longest_gap_ms leader) ms"
    [ "$(longest_gap_ms leader)" -lt 1500 ] || die "writes paused for $(longest_gap_ms leader) ms"
    end_hogs "g1-$id"
    check_writer leader

    step "all are full, at once, under load: clear refusals, reads go on"
    cli put before-full value
    begin_writer full-a 16000
    begin_writer full-b 100
    sleep 0.3
    for n in 1 2 3; do begin_hog "g1-$n"; done
    until_true 5 "writes are refused" refused_for_space
    [ "$(cli get before-full)" = value ] || die "a read failed on full disks"
    sleep 1
    [ "$(cli get before-full)" = value ] || die "a read failed on full disks"
    end_writers

    step "kill -9 of all on full disks: they start, and serve reads"
    for n in 1 2 3; do cluster kill "g1-$n"; done
    touch "$work/sated"
    for n in 1 2 3; do cluster_shimmed restart "g1-$n"; done
    [ "$(cli get before-full)" = value ] || die "a read failed after a restart on full disks"
    refused_for_space || die "a write was not refused: $(cat "$work/err")"

    step "room again: writes work by themselves"
    end_hogs g1-1 g1-2 g1-3
    until_true 5 "a write succeeds" cli --timeout 500 put after-full value
    check_writer full-a
    check_writer full-b
}
# A write ends with 3, the text says what is the matter, and it is not there.
refused_for_space() {
    local code=0 key=refused-$RANDOM$RANDOM
    "$bin/shardkv-cli" --timeout 500 put "$key" x >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = 3 ] && grep -q "disk space" "$work/err" || return 1
    code=0
    "$bin/shardkv-cli" --timeout 3000 get "$key" >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = 1 ]
}

part_move() {
    local shard tag name
    step "a move to a group without room waits, says so, and the source serves"
    cli join 2 "$spec_g2"
    cli wait --shards --timeout 15000 >/dev/null
    shard=$(cli --json config | sed 's/.*"shards": *\[\([^]]*\)\].*/\1/' | tr -d ' ' | tr ',' '\n' | awk '$1 == 1 { print NR - 1; exit }')
    tag=$(tag_of "$shard")
    name="{$tag}moved"
    for n in 1 2 3; do begin_hog "g2-$n"; done
    until_true 5 "group 2 is read-only" no_room_in_g2
    cli move "$shard" 2
    begin_writer "$name" 1000
    sleep 1.5
    cli status >"$work/status"
    grep -q "group 2, replica .*: read-only for lack of disk space; it leads: .*moves to the group" "$work/status" ||
        { cat "$work/status"; die "status does not say what the move waits for"; }
    end_writers
    [ "$(longest_gap_ms "$name")" -lt 500 ] || die "the source paused for $(longest_gap_ms "$name") ms"
    [ "$(count "$name" false)" = 0 ] || die "the source refused writes"
    end_hogs g2-1 g2-2 g2-3
    cli wait --shards --timeout 15000 >/dev/null || die "the move did not end"
    check_writer "$name"
}
# A word whose shard this is, of 16: CRC16/XMODEM mod 16384, in parts of 1024.
tag_of() {
    local n crc c i bit
    for n in $(seq 1000); do
        crc=0
        for ((i = 0; i < ${#n}; i++)); do
            printf -v c %d "'${n:i:1}"
            crc=$((crc ^ c << 8))
            for ((bit = 0; bit < 8; bit++)); do
                crc=$(((crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff))
            done
        done
        [ $((crc % 16384 / 1024)) != "$1" ] || { echo "$n"; return; }
    done
}
no_room_in_g2() {
    [ "$(grep -l 'disk nearly full' "$dir"/g2-*.log | wc -l)" = 3 ]
}

part_errors() {
    local id pid what=wal-eio
    for what in wal-eio state-eio; do
        step "a sync that fails ($what): that replica stops and says why, the group goes on"
        id=$(leader_of 1)
        pid=$(pid_of "g1-$id")
        begin_writer "$what" 30000
        sleep 0.2
        touch "$dir/g1-$id.$what"
        until_true 5 "the replica stops" is_gone "$pid"
        sleep 0.7
        end_writers
        rm "$dir/g1-$id.$what"
        say "   longest pause $(longest_gap_ms "$what") ms"
        [ "$(longest_gap_ms "$what")" -lt 1500 ] || die "writes paused for $(longest_gap_ms "$what") ms"
        tail -n 20 "$dir/g1-$id.log" | grep -q "exit_code=1" || die "not exit code 1"
        tail -n 20 "$dir/g1-$id.log" | grep -qi "input/output error" || die "the error is not named"
        cluster_shimmed restart "g1-$id"
        check_writer "$what"
    done
}

part_stall() {
    local id pid code=0 began
    step "a leader's disk stalls for 5 s: another one leads within 1.5 s"
    id=$(leader_of 1)
    begin_writer stall 100 3000
    sleep 0.5
    touch "$dir/g1-$id.hang"
    until_true 3 "leadership moves away" leads_another 1 "$id"
    sleep 4
    rm -f "$dir/g1-$id".hang
    sleep 0.5
    end_writers
    say "   longest pause $(longest_gap_ms stall) ms"
    [ "$(longest_gap_ms stall)" -lt 1500 ] || die "writes paused for $(longest_gap_ms stall) ms"
    kill -0 "$(pid_of "g1-$id")" || die "the stalled replica ended"
    check_writer stall

    step "SIGTERM while the disk hangs: the process ends within 2 s, and not with 0"
    id=$(leader_of 1)
    pid=$(pid_of "g1-$id")
    rm -f "$dir/g1-$id".hung
    touch "$dir/g1-$id".hang
    cli put hanging x
    until_true 2 "a sync hangs" test -e "$dir/g1-$id.hung"
    began=$(now_ms)
    kill -TERM "$pid"
    until_true 3 "it ends" is_gone "$pid"
    say "   it ended after $(($(now_ms) - began)) ms"
    [ $(($(now_ms) - began)) -lt 2300 ] || die "it took $(($(now_ms) - began)) ms"
    rm -f "$dir/g1-$id".hang
    tail -n 3 "$dir/g1-$id.log" | grep -q "ended without closing" || die "not said"
    cluster_shimmed restart "g1-$id"
    [ "$(cli get hanging)" = x ] || die "an acknowledged write is lost"
}

part_power() {
    local mounts=() round
    for node in $nodes; do mounts+=("$dir/$node"); done
    for round in 1 2; do
        step "power loss of all replicas at once, under load ($round)"
        begin_writer "power-$round-a" 100
        begin_writer "power-$round-b" 20000
        sleep 1.2
        "$build/tests/power_loss" "${mounts[@]}"
        for node in $nodes; do cluster kill "$node"; done
        end_writers
        for node in $nodes; do
            until_true 5 "unmounting" umount "$dir/$node"
            mount_image "$node"
        done
        cluster_shimmed up --no-join >/dev/null
        cli put "after-power-$round" x
        check_writer "power-$round-a"
        check_writer "power-$round-b"
    done
}

# flip FILE OFFSET
flip() {
    local byte
    byte=$(dd if="$1" bs=1 skip="$2" count=1 status=none | od -An -tu1)
    printf '%b' "\\x$(printf %x $((byte ^ 0x55)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
listing() {
    (cd "$dir/$1" && find . -type f -not -path './reserve/*' -not -name LOCK -exec cksum {} + | sort)
}
part_damage() {
    local id other file pid code=0 size offset
    step "damage in the log is named with file and offset, and nothing is changed"
    "$bin/shardkv-cli" bench --ops 4000 --value-bytes 4096 --clients 16 >/dev/null
    id=$(leader_of 1)
    other=$((id % 3 + 1))
    cluster kill "g1-$other"
    file=$(ls "$dir/g1-$other"/wal/*.wal | awk 'NR == 1')
    flip "$file" 100000
    listing "g1-$other" >"$work/before"
    "$bin/shardkv" --gid 1 --id "$other" --cluster "$spec_g1" --ctrlers "$ctrler_urls" --data "$dir/g1-$other" >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = 3 ] || die "exit code $code"
    grep -q "$file at offset [0-9]*: .*nothing was changed: start it with --rebuild" "$work/err" || die "$(cat "$work/err")"
    listing "g1-$other" | cmp - "$work/before" || die "files were changed"
    flip "$file" 100000
    cluster_shimmed restart "g1-$other"

    step "damage in the state that a running leader meets: it ends with 3, the group goes on"
    id=$(leader_of 1)
    pid=$(pid_of "g1-$id")
    for file in "$dir/g1-$id"/state/db-*/*.ldb; do
        size=$(stat -c %s "$file")
        for ((offset = 1000; offset < size - 1000; offset += size / 16 + 1)); do flip "$file" "$offset"; done
    done
    begin_writer damage 100 3000
    until_true 20 "the leader stops" met_damage "$pid"
    sleep 0.5
    end_writers
    tail -n 50 "$dir/g1-$id.log" | grep -q "exit_code=3" || die "not exit code 3"
    grep -q "/state/db-[0-9]*/[0-9]*.ldb is damaged at offset [0-9]*: .*start it with --rebuild" "$dir/g1-$id.log" || die "the table is not named"
    check_writer damage
}
# Reads everything, again and again.
met_damage() {
    "$bin/shardkv-cli" --timeout 3000 scan >/dev/null 2>&1 || true
    is_gone "$1"
}

step "up: two groups, each replica on an ext4 image of $image_mib MiB"
mkdir -p "$dir"
for node in $nodes; do make_image "$node"; done
cluster_shimmed up --ctrlers 1 --groups 2 --shards 16 --no-join >/dev/null
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls
cli join 1 "$spec_g1" # it has all shards, until the part about moves
cli wait --shards >/dev/null
for part in "$@"; do
    "part_$part"
done
say "disk test OK"
