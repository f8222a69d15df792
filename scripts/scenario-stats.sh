#!/usr/bin/env bash
# Runs the scenarios of the public suites with several seeds and prints, as the tables of
# tests/scenario/README.md, the medians of their figures beside the best published ones.
# A figure in bold is behind the best one published.
# Usage: scripts/scenario-stats.sh [--readme] [--lines DIR] [SEEDS [SUITE...]]
#   SEEDS        0 to SEEDS - 1, default 5
#   SUITE        raft rsm kvsrv kvraft kvraft1 shardctrler shardkv shardkv1 (default all)
#   --readme     puts the tables of these suites into the README instead of printing them
#   --lines DIR  keeps what each run prints in DIR, and runs nothing whose output is there
set -euo pipefail
source "$(dirname "$0")/lib.sh"

published=$root/tests/scenario/published.tsv
readme=$root/tests/scenario/README.md
seeds=5
into_readme=false
lines=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

while [[ ${1:-} == -* ]]; do
    case "$1" in
    -h | --help)
        sed -n '2,9s/^# //p' "$0"
        exit 0
        ;;
    --readme) into_readme=true ;;
    --lines)
        lines=${2:?--lines needs a directory}
        shift
        ;;
    *) die "unknown option: $1" ;;
    esac
    shift
done
case "${1:-}" in
'') ;;
*[!0-9]* | 0*) die "SEEDS must be a number above 0: $1" ;;
*)
    seeds=$1
    shift
    ;;
esac
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(raft rsm kvsrv kvraft kvraft1 shardctrler shardkv shardkv1)
: "${lines:=$scratch/lines}"
mkdir -p "$lines"

programs_of() {
    case "$1" in
    raft) echo raft_log raft_persist raft_snapshot ;;
    rsm) echo rsm_scenario ;;
    kvsrv) echo kvsrv lock ;;
    kvraft) echo kvraft kvraft_persist kvraft_snapshot ;;
    kvraft1) echo kvraft1 ;;
    shardctrler) echo shardctrler ;;
    shardkv) echo shardkv shardkv_load ;;
    shardkv1) echo shardkv1_a shardkv1_bc ;;
    *) die "unknown suite: $1" ;;
    esac
}

# Prints what all programs of the suite print, seed after seed.
run_suite() {
    local suite=$1 seed program programs output
    programs=$(programs_of "$suite")
    for program in $programs; do
        for ((seed = 0; seed < seeds; seed++)); do
            output=$lines/$program.$seed
            if [ ! -e "$output" ]; then
                [ -x "$build/tests/${program}_test" ] ||
                    die "${program}_test is not built in $build: run scripts/test.sh first"
                if ! SCENARIO_SEED=$seed "$build/tests/${program}_test" >"$output.new" 2>&1; then
                    tail -n 20 "$output.new" >&2
                    die "${program}_test failed with SCENARIO_SEED=$seed"
                fi
                mv "$output.new" "$output"
            fi
            cat "$output"
        done
    done
}

# A table of the medians of the lines on stdin that stats_line_print wrote, beside what is
# published. A column that nobody published is left out, and the best where only HO published.
# Every line must have its row in published.tsv, and every row its lines.
print_table() {
    awk -F '\t' -v suite="$1" -v published="$published" -v seeds="$seeds" '
    function fail(text) { print "scenario-stats.sh: " text > "/dev/stderr"; failed = 1; exit 1 }
    function median(name, column,    i, j, n, t, v) {
        n = count[name]
        for (i = 1; i <= n; i++) {
            v[i] = figures[name, i, column] + 0
            for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    function cell(text) { row = row " " text " |" }
    function behind(value, best, sign) { return best != "-" && sign * (value - (best + 0)) > 1e-9 }
    # Our figure, what HO printed, the best; as far as anybody published such figures.
    function cells(value, format, ho, best, sign, column) {
        value = sprintf(format, value)
        cell(behind(value, best, sign) ? "**" value "**" : value)
        if (has_ho[column]) { cell(ho) }
        if (has_best[column]) { cell(best) }
    }
    function head(text, column) {
        cell(text)
        if (has_ho[column]) { cell("HO") }
        if (has_best[column]) { cell(column == 4 ? "most" : "best") }
    }
    function note(ho, best, column) {
        if (ho != "-") { has_ho[column] = 1 }
        if (best != "-" && best != ho " HO") { has_best[column] = 1 }
    }
    BEGIN {
        ho_total = total = "-"
        while ((getline line < published) > 0) {
            split(line, p, "\t")
            if (p[1] != suite) { continue }
            if (p[2] == "total") { ho_total = p[3]; total = p[5] } else { names[++n_names] = p[2]; is_name[p[2]] = 1 }
            for (i = 3; i <= 8; i++) { best[p[2], i] = p[i] }
            note(p[3], p[5], 1); note(p[4], p[6], 2); note("-", p[7], 3); note("-", p[8], 4)
        }
        if (!n_names) { fail("published.tsv has no rows of " suite) }
    }
    match($0, / +[0-9.]+ s +[0-9]+ peers +[0-9]+ (RPCs|messages) /) {
        name = substr($0, 1, RSTART - 1)
        n = split(substr($0, RSTART), f, / +/)
        if (!is_name[name]) { fail("no row of " suite " in published.tsv is called " name) }
        at = ++count[name]
        figures[name, at, 1] = f[2]
        if (f[7] == "messages") { # both directions, without their bytes
            figures[name, at, 2] = f[6] / 2; figures[name, at, 4] = f[8]; unit = f[9]
        } else {
            figures[name, at, 2] = f[6]; figures[name, at, 3] = f[8]; figures[name, at, 4] = f[10]
            unit = f[11]; has_bytes = 1
        }
        sub(/,$/, "", unit)
        for (i = 12; i <= n; i++) {
            if (f[i] == "took") { figures[name, at, 5] = f[i + 1]; has_longest = 1 }
            # The controllers are the group that the suite is about.
            if (suite == "shardctrler" && f[i] == "(and") { figures[name, at, 2] = f[i + 1]; unit = "" }
        }
    }
    END {
        if (failed) { exit 1 }
        for (i = 1; i <= n_names; i++) {
            name = names[i]
            if (!count[name] || count[name] % seeds) {
                fail(suite ": " count[name] + 0 " lines of " name " with " seeds " seeds")
            }
        }
        row = "|"; cell(suite); head("s", 1); head("RPCs", 2)
        if (has_bytes) { head("bytes", 3) }
        if (unit != "") { head(unit, 4) }
        if (has_longest) { cell("longest, s") }
        print row
        gsub(/[^|]+/, "---", row); print row
        for (i = 1; i <= n_names; i++) {
            name = names[i]; shown = name; sub(/^(v|rsm|s|s1) /, "", shown)
            row = "|"; cell(shown)
            cells(median(name, 1), "%.1f", best[name, 3], best[name, 5], 1, 1)
            cells(median(name, 2), "%.0f", best[name, 4], best[name, 6], 1, 2)
            if (has_bytes) { cells(median(name, 3), "%.0f", "", best[name, 7], 1, 3) }
            if (unit != "") { cells(median(name, 4), "%.0f", "", best[name, 8], -1, 4) }
            if (has_longest) { cell(sprintf("%.2f", median(name, 5))) }
            print row
            for (j = 1; j <= 3; j++) { sum[j] += median(name, j) }
            for (j = 3; j <= 4; j++) {
                ho[j] += best[name, j]
                if (best[name, j] == "-") { lacks[j] = 1 }
            }
        }
        if (ho_total == "-" && !lacks[3]) { ho_total = sprintf("%.1f", ho[3]) }
        row = "|"; cell("sum")
        cells(sum[1], "%.1f", ho_total, total, 1, 1)
        cells(sum[2], "%.0f", lacks[4] ? "-" : ho[4], "-", 1, 2)
        if (has_bytes) { cells(sum[3], "%.0f", "", "-", 1, 3) }
        if (unit != "") { cell(""); if (has_best[4]) { cell("") } }
        if (has_longest) { cell("") }
        print row
    }'
}

# Replaces what stands between the two marks of the suite by the input.
put_into_readme() {
    local suite=$1
    {
        if [ "$suite" = rsm ]; then
            say "One run: each scenario has a seed of its own, whatever \`SCENARIO_SEED\` says."
        elif [ "$seeds" = 1 ]; then
            say 'One run.'
        else
            say "Medians of $seeds seeds."
        fi
        say ''
        cat
    } >"$scratch/table"
    grep -q "<!-- figures $suite -->" "$readme" || die "$readme has no place for the table of $suite"
    awk -v table="$scratch/table" -v begin="<!-- figures $suite -->" -v end="<!-- end $suite -->" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = 1; while ((getline line < table) > 0) { print line } }
    ' "$readme" >"$scratch/readme"
    cat "$scratch/readme" >"$readme"
}

for suite in "${suites[@]}"; do
    run_suite "$suite" >"$scratch/output"
    print_table "$suite" <"$scratch/output" >"$scratch/printed"
    if $into_readme; then
        put_into_readme "$suite" <"$scratch/printed"
    else
        cat "$scratch/printed"
        say ""
    fi
done
