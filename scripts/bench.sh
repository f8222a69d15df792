#!/usr/bin/env bash
# Measures a cluster of ours beside one of etcd, and watches what single steps cost. usage(), below, says all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
out=$build/bench
source "$root/tests/bench/measure.sh"
source "$root/tests/bench/etcd.sh"
source "$root/tests/bench/ours.sh"
source "$root/tests/bench/loads.sh"

usage() {
    cat <<'END'
usage: scripts/bench.sh [options]            ours beside etcd, round by round, and what is wanted of it
       scripts/bench.sh --check [--record]   what single steps of the servers cost, beside the recorded costs
Starts three controllers and a group of three, and three members of etcd with its defaults, all on loopback and
on free ports, with data in a folder of their own in TMPDIR (which must be on the disk to be measured). Both get
the same load, in turns; only one of them at a time. Without etcd ours is measured alone.

  --install         gets etcd's program, and what its load generator is built with, by apt (as root)
  --rounds N        of each load (default 5)
  --seconds S       of each measurement (default 5)
  --trials N        kills of the leader (default 20)
  --groups N        of ours (default 1; with more, failover is left out: it kills the leader of one group)
  --only LOAD[,...] only these loads (--list names them)
  --ours-only       without etcd
  --json FILE       the report as one JSON document there too (always: build/bench/bench.json)
  --keep            keeps the samples and the servers' folders, and says where
  --quick           one short round with few keys: shows that all of it works, and no more
  --list, --help

CPU per operation is user and system time of all servers' processes; written bytes are what they sent to the
disk. A ratio is ours to etcd's in the same round; the table has the least, the median and the greatest.
Exit code 0: all was measured (whether or not what is wanted is met); 1: something failed; 2: wrong usage.
END
}

refuse() {
    say "bench.sh: $*" >&2
    exit 2
}

# ---- Options

rounds=5 seconds=5 trials=20 groups=1 only= ours_only=0 json_file= keep=0 quick=0 install=0 check=0 record=0
n_keys=100000 million=1000000 run_timeout=180
# take_number NAME VALUE: --NAME wants it.
take_number() {
    [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || refuse "--$1 wants a number above 0, not '$2'"
    printf -v "$1" %s "$2"
}
while [ $# -gt 0 ]; do
    case $1 in
    --rounds | --seconds | --trials | --groups) take_number "${1#--}" "${2:-}"; shift 2 ;;
    --only | --json)
        [ $# -ge 2 ] || refuse "$1 wants a value"
        if [ "$1" = --only ]; then only=$2; else json_file=$2; fi
        shift 2
        ;;
    --ours-only) ours_only=1; shift ;;
    --keep) keep=1; shift ;;
    --quick) quick=1; shift ;;
    --install) install=1; shift ;;
    --check) check=1; shift ;;
    --record) check=1 record=1; shift ;;
    --list) say "$load_names"; exit 0 ;;
    --help) usage; exit 0 ;;
    *) usage >&2; refuse "no such option: $1" ;;
    esac
done
for name in ${only//,/ }; do
    [[ " $load_names " == *" $name "* ]] || refuse "no such load: $name (there are: $load_names)"
done
if [ "$quick" = 1 ]; then
    rounds=1 seconds=1 trials=1 n_keys=5000 million=20000
fi

# ---- What single steps cost

if [ "$check" = 1 ]; then
    [ -x "$build/tests/step_cost" ] || build_all
    exec "$build/tests/step_cost" $([ "$record" = 0 ] || echo --record) "$root/tests/bench/step_cost.tsv"
fi

# ---- Beginning and end

work=
cleanup() {
    local code=$?
    trap - EXIT INT TERM
    # shellcheck disable=SC2046
    [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null || true
    ours_down two
    if [ "$keep" = 1 ]; then
        ours_cluster down one || true
    else
        ours_down one
    fi
    [ ${#etcd_pids[@]} -eq 0 ] || etcd_kill_all
    if [ "$keep" = 1 ]; then say "kept: $work"; else rm -rf "$work"; fi
    exit "$code"
}
await_gone() {
    local pid i
    for pid in "$@"; do
        for ((i = 0; i < 1000; i++)); do
            [ -d "/proc/$pid" ] || break
            sleep 0.01
        done
    done
}
begin() {
    mkdir -p "$out"
    work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-bench.XXXXXX")
    samples=$work/samples.tsv
    : >"$samples"
    trap cleanup EXIT
    trap 'exit 1' INT TERM
    [ "$(stat -f -c %T "$work")" != tmpfs ] || say "beware: $work is in memory, not on a disk; set TMPDIR" >&2
    [ "$install" = 0 ] || etcd_find || etcd_install
    if [ "$ours_only" = 0 ] && ! etcd_find; then
        say "no etcd, or not built with libnghttp2-dev: ours is measured alone (--install gets both)"
        ours_only=1
    fi
    ours_up one "$groups"
    [ "$ours_only" = 1 ] || etcd_up
}

fill_both() {
    ours_run one --fill --keys "$n_keys" --clients 256 --connections 16 --ops 1 >/dev/null
    [ "$ours_only" = 1 ] || etcd_fill "$n_keys"
    settle
    sample idle ours 1 cores "$(idle_cores 3 $(ours_pids one))"
    [ "$ours_only" = 1 ] || sample idle etcd 1 cores "$(idle_cores 3 "${etcd_pids[@]}")"
}

# ---- The loads

selected() {
    [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]
}

run_load() {
    if declare -F "load_$1" >/dev/null; then "load_$1" "$2"; else run_side_by_side "$1" "$2"; fi
}

# run_loads NAME...: round by round; those with rounds of their own before.
run_loads() {
    local name round in_rounds=()
    for name in "$@"; do
        selected "$name" || continue
        if [[ " $own_rounds " == *" $name "* ]]; then
            say "$(date +%T) $name"
            run_load "$name" 1
        else
            in_rounds+=("$name")
        fi
    done
    [ ${#in_rounds[@]} -gt 0 ] || return 0
    for ((round = 1; round <= rounds; round++)); do
        for name in "${in_rounds[@]}"; do
            say "$(date +%T) $name, round $round of $rounds"
            run_load "$name" "$round"
        done
    done
}

begin
fill_both
run_loads put-64x64 put-64x1 put-256x4 put-1 limit transport half-load crowd
run_loads groups
[ "$groups" -gt 1 ] || run_loads failover
if [ "$ours_only" = 0 ] && { selected get-64x64 || selected get-64x1; }; then
    etcd_restart_all
    etcd_probe --seconds 60 >/dev/null
    etcd_find_leader
fi
run_loads get-64x64 get-64x1
run_loads restart
run_loads stalls
printf '%s\n' "${wanted_rows[@]}" >"$work/wanted"
commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
awk -v wanted="$work/wanted" -v json="$out/bench.json" -v plot="$out/bench.tsv" -v commit="$commit" \
    -v date="$(date -u +%FT%TZ)" -v rounds="$rounds" -v seconds="$seconds" -v cores="$(nproc)" \
    -f "$root/tests/bench/report.awk" "$samples"
cp "$samples" "$out/samples.tsv"
[ -z "$json_file" ] || cp "$out/bench.json" "$json_file"
if ! command -v gnuplot >/dev/null; then
    say "no plot: gnuplot is not installed (Debian: gnuplot-nox)"
elif gnuplot -e "data='$out/bench.tsv'; out='$out/bench.png'" "$root/tests/bench/plot.gp" 2>"$work/plot.err"; then
    say "plot: $out/bench.png"
else
    say "no plot: $(head -n 2 "$work/plot.err")"
fi
say "report: $out/bench.json, samples: $out/samples.tsv"
