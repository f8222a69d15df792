#!/usr/bin/env bash
# Fuzzes the decoders and state machines with libFuzzer (clang, AddressSanitizer, UBSan), see
# tests/fuzz/README.md. Builds in a folder of its own; inputs that reach new code are kept there from run
# to run, so that a run goes on where the last one ended.
#
# Usage: scripts/fuzz.sh [--minutes M] [--jobs J] [--keep] [TARGET...]
#   --minutes M   for each target (default 1; 0: only what --keep does)
#   --jobs J      targets at the same time (default: the number of processors)
#   --keep        afterwards, puts a minimal set of inputs that reaches the same code into
#                 tests/fuzz/corpus/TARGET, where the default tests run them
#   TARGET        without the _fuzz, as in tests/fuzz/TARGET_fuzz.c; none: all
# Prints a table. Exits 1, and names the input, if anything was found.
# Environment: SHARDKV_FUZZ_BUILD, the folder (default build-fuzz).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=${SHARDKV_FUZZ_BUILD:-$root/build-fuzz}
minutes=1
jobs=$(nproc)
keep=0
targets=()
# What an input may cost: more time or memory than this is a finding too. (The time is long because it goes on
# while the whole process is stopped.)
limits=(-timeout=180 -rss_limit_mb=1500 -malloc_limit_mb=100)

parse_arguments() {
    local file what
    while [ $# -gt 0 ]; do
        case $1 in
        --minutes) minutes=${2:?}; shift 2 ;;
        --jobs) jobs=${2:?}; shift 2 ;;
        --keep) keep=1; shift ;;
        --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) die "no such option: $1 (see --help)" ;;
        *) targets+=("$1"); shift ;;
        esac
    done
    [[ $minutes =~ ^[0-9]+$ && $jobs =~ ^[1-9][0-9]*$ ]] || die "--minutes and --jobs take numbers"
    if [ ${#targets[@]} -eq 0 ]; then
        for file in "$root"/tests/fuzz/*_fuzz.c; do
            targets+=("$(basename "$file" _fuzz.c)")
        done
    fi
    for what in "${targets[@]}"; do
        [ -f "$root/tests/fuzz/${what}_fuzz.c" ] || die "there is no tests/fuzz/${what}_fuzz.c"
    done
}

build_targets() {
    local launcher=() output
    command -v clang >/dev/null || die "clang is not installed (apt-get install clang)"
    ! command -v ccache >/dev/null || launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    if ! output=$( (cmake -S "$root" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DSHARDKV_FUZZ=ON "${launcher[@]}" &&
        ninja -C "$build" "${targets[@]/%/_fuzz}") 2>&1); then
        printf '%s\n' "$output" | tail -n 60 >&2
        die "the build failed"
    fi
    mkdir -p "$build/logs" "$build/finds"
}

# run WHAT: one target, until its time is over or it finds something.
run() {
    local what=$1 len leaks=1
    # LevelDB's own threads hold memory where LeakSanitizer does not look; replaying the corpus looks at the end.
    [ "$what" != state ] || leaks=0
    mkdir -p "$build/corpus/$what" "$root/tests/fuzz/corpus/$what"
    # Many targets read their input as a script: from an empty one it is a long way to a long story.
    if [ -z "$(find "$build/corpus/$what" "$root/tests/fuzz/corpus/$what" -type f)" ]; then
        for len in $(seq 20 20 600); do
            head -c "$len" /dev/urandom >"$build/corpus/$what/random-$len"
        done
    fi
    nice -n 19 "$build/fuzz/${what}_fuzz" -max_total_time=$((minutes * 60)) -print_final_stats=1 \
        -use_value_profile=1 -max_len=4096 -len_control=20 -detect_leaks=$leaks "${limits[@]}" -artifact_prefix="$build/finds/$what-" \
        "$build/corpus/$what" "$root/tests/fuzz/corpus/$what" >"$build/logs/$what.log" 2>&1
}

run_all() {
    local running=0 what
    for what in "${targets[@]}"; do
        if [ "$running" -ge "$jobs" ]; then
            wait -n || true
            running=$((running - 1))
        fi
        run "$what" &
        running=$((running + 1))
    done
    wait || true
}

# A number of libFuzzer's final statistics; of its last line of progress.
stat_field() {
    sed -n "s/^stat::$1: *\([0-9]*\).*/\1/p" "$2" | tail -n 1
}
progress_field() {
    sed -n "s/^#[0-9].* $1: \([0-9]*\).*/\1/p" "$2" | tail -n 1
}

# Prints the table; false if anything was found.
report() {
    local found=0 what log result
    printf '%-12s %12s %8s %8s %8s %8s  %s\n' TARGET EXECUTIONS PER_S EDGES FEATURES MIB RESULT
    for what in "${targets[@]}"; do
        log=$build/logs/$what.log
        result=ok
        if ! grep -aq '^Done ' "$log" || grep -a 'Test unit written to' "$log" | grep -qv slow-unit; then
            found=1
            result=$(sed -n 's/^artifact_prefix=.*Test unit written to //p' "$log" | tail -n 1)
            result="FOUND ${result:-, see $log}"
        fi
        printf '%-12s %12s %8s %8s %8s %8s  %s\n' "$what" "$(stat_field number_of_executed_units "$log")" \
            "$(stat_field average_exec_per_sec "$log")" "$(progress_field cov "$log")" "$(progress_field ft "$log")" \
            "$(stat_field peak_rss_mb "$log")" "$result"
    done
    [ "$found" = 0 ]
}

# The smallest set of inputs that reaches every edge that any input reaches. Those that once found something
# (named finding-*) stay whatever they reach.
keep_inputs() {
    local what corpus small log
    for what in "${targets[@]}"; do
        corpus=$root/tests/fuzz/corpus/$what
        log=$build/logs/$what-merge.log
        small=$(mktemp -d)
        nice -n 19 "$build/fuzz/${what}_fuzz" -set_cover_merge=1 -use_counters=0 "${limits[@]}" \
            "$small" "$corpus" "$build/corpus/$what" >"$log" 2>&1 || die "merging $what failed, see $log"
        find "$corpus" -type f ! -name 'finding-*' -delete
        find "$small" -type f -exec cp -t "$corpus" {} +
        rm -rf "$small"
        say "$what: $(find "$corpus" -type f | wc -l) inputs, $(cat "$corpus"/* | wc -c) bytes"
    done
}

main() {
    parse_arguments "$@"
    build_targets
    if [ "$minutes" -gt 0 ] && ! { run_all; report; }; then
        say "To run an input again: $build/fuzz/TARGET_fuzz INPUT"
        say "Once it is mended, keep it as tests/fuzz/corpus/TARGET/finding-WHAT."
        exit 1
    fi
    [ "$keep" = 0 ] || keep_inputs
    exit 0
}
main "$@"
