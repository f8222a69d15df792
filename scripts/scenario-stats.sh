#!/usr/bin/env bash
# Runs the scenarios of the public suites with several seeds and prints, as the tables of
# tests/README.md, the medians of their figures beside the best published ones.
# A figure in bold is behind the best one published.
# Usage: scripts/scenario-stats.sh [--readme] [SEEDS [SUITE...]]
#   SEEDS     default 5; SUITE: raft kvraft shardkv shardkv1 (default all)
#   --readme  puts the tables of these suites into tests/README.md instead of printing them
set -euo pipefail
source "$(dirname "$0")/lib.sh"

published=$root/tests/scenario/published.tsv
readme=$root/tests/README.md
seeds=5
into_readme=false
if [ "${1:-}" = --readme ]; then
    into_readme=true
    shift
fi
case "${1:-}" in
-h | --help)
    sed -n '2,7s/^# //p' "$0"
    exit 0
    ;;
'') ;;
*[!0-9]*) die "SEEDS must be a number: $1" ;;
*)
    seeds=$1
    shift
    ;;
esac
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(raft kvraft shardkv shardkv1)
lines=$(mktemp)
trap 'rm -f "$lines" "$lines".*' EXIT

# The programs of a suite: SUITE_test and SUITE_*_test, as far as they are built.
programs_of() {
    find "$build/tests" -maxdepth 1 -type f \( -name "$1_test" -o -name "$1_*_test" \) | sort
}

run_all() {
    local suite=$1 seed program output
    for program in $(programs_of "$suite"); do
        for ((seed = 0; seed < seeds; seed++)); do
            if ! output=$(SCENARIO_SEED=$seed "$program" 2>&1); then
                printf '%s\n' "$output" | tail -n 20 >&2
                die "$(basename "$program") failed with SCENARIO_SEED=$seed"
            fi
            printf '%s\n' "$output" >>"$lines"
        done
    done
}

# The figures of the lines that stats_line_print wrote, as medians, in a table.
print_table() {
    awk -F '\t' -v suite="$1" -v lines="$lines" '
    function median(name, column,    i, j, n, t, v) {
        n = count[name]
        for (i = 1; i <= n; i++) {
            v[i] = figures[name, i, column] + 0
            for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    function marked(text, behind) { return behind ? "**" text "**" : text }
    function lower_is_better(name, column, format, best) {
        return marked(sprintf(format, median(name, column)),
                      best != "-" && sprintf(format, median(name, column)) + 0 > best + 0)
    }
    BEGIN {
        while ((getline line < lines) > 0) {
            n = split(line, f, / +/)
            for (i = 5; i <= n && f[i] != "peers"; i++) { }
            if (i + 6 > n || f[i - 2] != "s" || f[i + 2] != "RPCs") { continue }
            name = f[1]
            at = ++count[name]
            figures[name, at, 1] = f[i - 3]
            figures[name, at, 2] = f[i + 1]
            figures[name, at, 3] = f[i + 3]
            figures[name, at, 4] = f[i + 5]
            unit = f[i + 6]; sub(/,$/, "", unit)
            for (j = i + 6; j < n; j++) {
                if (f[j] == "took") { figures[name, at, 5] = f[j + 1]; has_longest = 1 }
            }
        }
        printf "| %s | s | HO | best | RPCs | HO | best | bytes | best | %s | most |%s\n", suite, unit,
               has_longest ? " longest, s |" : ""
        printf "|---|---|---|---|---|---|---|---|---|---|---|%s\n", has_longest ? "---|" : ""
    }
    $1 == suite {
        name = $2
        if (!count[name]) {
            printf "| %s | | %s | %s | | %s | %s | | %s | | %s |%s\n", name, $3, $5, $4, $6, $7, $8,
                   has_longest ? " |" : ""
            next
        }
        printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", name,
               lower_is_better(name, 1, "%.1f", $5), $3, $5, lower_is_better(name, 2, "%d", $6), $4, $6,
               lower_is_better(name, 3, "%d", $7), $7,
               marked(sprintf("%d", median(name, 4)), $8 != "-" && median(name, 4) < $8 + 0), $8
        if (has_longest) { printf " %.2f |", median(name, 5) }
        printf "\n"
        seconds += median(name, 1); rpcs += median(name, 2); bytes += median(name, 3)
        ho_seconds += $3; ho_rpcs += $4; best_seconds += $5; best_rpcs += $6
    }
    END {
        printf "| sum | %.1f | %.1f | %.1f | %d | %d | %d | %d | | | |%s\n", seconds, ho_seconds,
               best_seconds, rpcs, ho_rpcs, best_rpcs, bytes, has_longest ? " |" : ""
    }' "$published"
}

# Replaces what stands between the suite's two marks by the input.
put_into_readme() {
    local suite=$1 table=$lines.md
    { printf 'Medians of %s seeds.\n\n' "$seeds" && cat; } >"$table"
    grep -q "<!-- figures $suite -->" "$readme" || die "$readme has no place for the table of $suite"
    awk -v table="$table" -v begin="<!-- figures $suite -->" -v end="<!-- end $suite -->" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = 1; while ((getline line < table) > 0) { print line } }
    ' "$readme" >"$lines.new"
    cat "$lines.new" >"$readme"
}

[ -d "$build/tests" ] || die "nothing is built in $build: run scripts/test.sh first"
for suite in "${suites[@]}"; do
    : >"$lines"
    run_all "$suite"
    if $into_readme; then
        print_table "$suite" | put_into_readme "$suite"
    else
        print_table "$suite"
        say ""
    fi
done
