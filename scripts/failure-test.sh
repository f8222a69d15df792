#!/usr/bin/env bash
# Breaks a cluster of real processes in every way there is while clients work, and judges what they were told.
# usage(), below, says all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$root/tests/cluster/fail_cluster.sh"
source "$root/tests/cluster/fail_faults.sh"
source "$root/tests/cluster/fail_report.sh"
source "$root/tests/cluster/fail_recovery.sh"
source "$root/tests/cluster/fail_soak.sh"

usage() {
    cat <<'END'
usage: scripts/failure-test.sh [options]              rounds of faults, each kind in turn, then mixes
       scripts/failure-test.sh --recovery [options]   how long clients wait after each kind of failure
       scripts/failure-test.sh --soak [options]       mixed load with random faults for long; memory, files, disk
       scripts/failure-test.sh --list                 the faults
Starts three controllers and two groups of three as processes of their own, each in a network namespace with an
address of its own and with a disk of its own (an ext4 image). Needs root; touches nothing outside namespaces of
its own, and all of it is gone when it ends, however it ends.

  --fault NAME[,NAME...]  only these; may be given several times
  --seed N                chooses victims, times and the clients' operations (default: from the clock; printed).
                          The seed settles what is tried in which order, not how threads and packets interleave
  --minutes M             goes on with rounds for so long (default: each fault once; --soak: 60)
  --rounds N              rounds of each fault (default 1)
  --hold S                how long a fault is held (default 6 seconds)
  --quick                 the selection of the default tests, about two and a half minutes
  --trials N              --recovery: of each kind but heal (default 20)
  --long-trials N         --recovery: of heal, each of which takes over --cut-seconds (default 3)
  --only NAME[,NAME...]   --recovery: only these (kill-leader, cut-leader, cut-one-way, heal, restart,
                          disk-stall, stop-leader)
  --cut-seconds S         --recovery: length of the partition before "heal" (default 60)
  --keys N                --recovery: in the cluster that is restarted (default 1000000)
  --keep DIR              keeps histories, traces of the servers and samples there
  --json FILE             the report as one JSON document too
  --plot FILE             --soak: the plot (default failure-soak.png; needs gnuplot)
  --log-level LEVEL       of the servers (default info)
  --shards N              (default 16)
  --help

A round: sessions of the library and processes of shardkv-cli pipe work on a few keys (get, put, append,
delete, cas) and append tokens; shards move, groups leave and join all the time; the fault comes and goes; then
all is healed. Within a bound (30 s) every replica must be up and have caught up, every shard be served and
every slot of keys have been served again. Then the histories are judged: linearizable, with unknown outcomes
left open; what was refused for certain must never show; each acknowledged token is there once, in order.
"worst gap" is the longest time in which a slot of keys was not served at all, in the whole round.
Exit code 0: nothing was found; 1: something was; 2: wrong usage; 77: this machine lacks what it takes.
END
}

# ---- Options

refuse() {
    say "failure-test.sh: $*" >&2
    exit 2
}
mode=rounds selected=() seed= minutes= rounds=1 hold_s=6 quick=0 trials=20 long_trials=3 only= cut_seconds=60 n_keys=1000000
keep= json= plot=failure-soak.png log_level=info n_shards=16 inside= n_groups=2 disk_mib=1024 bound_ms=30000
is_number() {
    [[ $2 =~ ^[0-9]{1,9}$ ]] || refuse "$1 wants a number, not '$2'"
}
absolute() {
    case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac
}
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --list) list_faults; exit 0 ;;
    --recovery) mode=recovery; shift; continue ;;
    --soak) mode=soak; shift; continue ;;
    --quick) quick=1; shift; continue ;;
    esac
    [ $# -ge 2 ] || refuse "$1: unknown, or its value is missing (see --help)"
    case $1 in
    --fault) IFS=, read -ra names <<<"$2"; for name in "${names[@]}"; do check_fault "$name"; done; selected+=("${names[@]}") ;;
    --only) only=$2; check_recoveries ;;
    --keep) keep=$(absolute "$2") ;;
    --json) json=$(absolute "$2"); : >"$json" || refuse "$json can't be written" ;;
    --plot) plot=$(absolute "$2") ;;
    --log-level) log_level=$2 ;;
    --inside) inside=$2 ;;
    *) is_number "$1" "$2" ;;&
    --seed) seed=$2 ;;
    --minutes) minutes=$2 ;;
    --rounds) rounds=$2 ;;
    --hold) hold_s=$2 ;;
    --trials) trials=$2 ;;
    --long-trials) long_trials=$2 ;;
    --cut-seconds) cut_seconds=$2 ;;
    --keys) n_keys=$2 ;;
    --shards) n_shards=$2 ;;
    --fault | --only | --keep | --json | --plot | --log-level | --inside) ;;
    *) refuse "$1: unknown (see --help)" ;;
    esac
    shift 2
done
tool=$build/tests/fail_tool

# ---- Outside: a folder, namespaces, and an end that leaves nothing behind

# Ends the shell of the inside, and with it its namespaces: every process, every mount. What was frozen at that
# moment keeps its loop device until it is thawed.
clean_up() {
    local code=$? image name device
    trap - EXIT INT TERM HUP
    if [ -n "$inside_pid" ]; then
        kill -KILL "$inside_pid" 2>/dev/null || true
        wait "$inside_pid" 2>/dev/null || true
    fi
    for image in "$work"/*.img; do
        device=$(losetup -n -O NAME -j "$image" 2>/dev/null | head -n 1)
        name=$(basename "$image" .img)
        if [ -n "$device" ] && grep -qx "$name" "$work/frozen" 2>/dev/null; then
            mount "$device" "$work/disk/$name" 2>/dev/null && "$tool" thaw "$work/disk/$name" && umount "$work/disk/$name"
        fi
    done
    if [ -n "$keep" ] || [ "$code" = 1 ]; then
        keep=${keep:-$work.kept}
        mkdir -p "$keep"
        cp -r "$work/out/." "$keep" && say "histories and traces are in $keep" >&2
    fi
    rm -rf "$work"
    exit "$code"
}
run_outside() {
    local missing code=0
    [ -x "$bin/shardkv" ] && [ -x "$build/tests/fail_load" ] || build_all
    missing=$("$tool" probe) || { say "failure-test.sh: skipped: this machine $missing"; exit 77; }
    unshare --mount --pid --net --fork --kill-child true 2>/dev/null ||
        { say "failure-test.sh: skipped: this machine allows no namespaces"; exit 77; }
    seed=${seed:-$((($(date +%s%N) / 1000000) % 1000000))}
    inside_pid=
    work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-failure.XXXXXX")
    mkdir -p "$work/out"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
        bash "$root/scripts/failure-test.sh" "${arguments[@]}" --seed "$seed" --inside "$work" &
    inside_pid=$!
    wait "$inside_pid" || code=$?
    inside_pid=
    exit "$code"
}

# ---- Inside: rounds

# Only faults that the shim of clocks is for need it; without it the processes are as they are shipped.
prepare() {
    out=$work/out
    RANDOM=$((seed % 32768))
    node_env=(-u SHARDKV_CTRLERS)
    if grep -q __tsan_init "$bin/shardkv"; then return; fi # it has functions of its own in their place
    case " ${selected[*]} " in
    *" clock-"* | *" cut-slow-leader "* | *" mix "*) node_env+=("LD_PRELOAD=$build/tests/libfail_clock.so" ASAN_OPTIONS=verify_asan_link_order=0) ;;
    esac
}

# run_round FAULT: sets $verdict (ok, or what is wrong), and the round's figures
run_round() {
    local fault=$1 gap changes
    n_rounds=$((n_rounds + 1))
    verdict=ok
    ask begin "$n_rounds" "$out/history-$n_rounds-$fault.tsv"
    ask churn on
    sleep 1
    note "round $n_rounds: $fault"
    "fault_$fault"
    heal_all
    ask churn off
    ask heal
    converged_ms=
    if try_ask await "$bound_ms"; then converged_ms=$(field ms); else verdict="did not converge: $reply"; fi
    if ! try_ask end && [ "$verdict" = ok ]; then verdict=$reply; fi
    gap=$(field gap_ms) changes=$(field changes)
    gap_ms=${gap:-0}
    reply=
    if ! read -r reply < <("$build/tests/fail_check" "$out/history-$n_rounds-$fault.tsv" 2>"$out/check.txt") ||
        [ -s "$out/check.txt" ] || [[ $reply != linearizable=yes* ]]; then
        [ "$verdict" != ok ] || verdict="the history is wrong"
        cat "$out/check.txt" >&2
    fi
    operations=$(field operations) unknown=$(field unknown) refused=$(field refused) tokens=$(field tokens)
    judge_tokens
    say "$(printf '%5d s  %-14s %6d operations, %4d unknown, %5d refused, %5d tokens, %3d changes; worst gap %6d ms, well again after %5s ms: %s' \
        "$SECONDS" "$fault" "${operations:-0}" "${unknown:-0}" "${refused:-0}" "${tokens:-0}" "${changes:-0}" "$gap_ms" \
        "${converged_ms:-?}" "$verdict")"
    note_round "$fault"
    if [ "$verdict" = ok ] && [ -z "$keep" ]; then rm -f "$out/history-$n_rounds-$fault.tsv"; fi
    if [ "$verdict" = ok ]; then ask forget; fi
    check_processes
}
judge_tokens() {
    local name
    for name in bad malformed missing twice unordered refused_there strange unread; do
        if [ "$(field $name)" != 0 ] && [ "$verdict" = ok ]; then verdict="$name: $(field $name)"; fi
    done
}
# A process that ended by itself is a finding, unless its disk failed.
check_processes() {
    local name
    for name in "${all_nodes[@]}"; do
        if grep -qE 'assert|Sanitizer|panic' "$out/$name.log"; then
            verdict="$name: $(grep -m 1 -E 'assert|Sanitizer|panic' "$out/$name.log")"
            return
        fi
    done
}

run_rounds() {
    local fault end=$((minutes * 60)) round
    if [ ${#selected[@]} = 0 ]; then
        for fault in "${fault_table[@]}"; do selected+=("${fault%%|*}"); done
    fi
    if [ "$quick" = 1 ]; then
        selected=(kill-leader kill-majority kill-rolling pause-leader pause-all cut-leader cut-slow-leader cut-one-way cut-halves
            cut-bridge cut-random net-loss net-reorder disk-full disk-stall disk-error power-one power-all clock-jump
            clock-rate mix mix)
        hold_s=4
    fi
    prepare
    say "seed $seed; $(nproc) cores; faults: ${selected[*]}"
    start_cluster
    for ((round = 1; round <= rounds || SECONDS < end; round++)); do
        for fault in "${selected[@]}"; do
            run_round "$fault"
            if [ "$verdict" != ok ]; then
                break 2
            fi
            if [ "$end" -gt 0 ] && [ "$round" -gt "$rounds" ] && [ "$SECONDS" -ge "$end" ]; then break 2; fi
        done
    done
    net stats
    say "network: $reply"
    stop_cluster
    report_rounds
    [ "$verdict" = ok ] || die "$fault: $verdict (seed $seed)"
    say "failure test OK after $SECONDS s"
}

run_inside() {
    work=$inside minutes=${minutes:-0} n_rounds=0 verdict=ok
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    case $mode in
    rounds) run_rounds ;;
    recovery) run_recovery ;;
    soak) run_soak ;;
    esac
}
if [ -n "$inside" ]; then
    run_inside
    exit
else
    run_outside
fi
