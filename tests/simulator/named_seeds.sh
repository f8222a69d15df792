#!/usr/bin/env bash
# Runs every line of named_seeds.txt. Usage: named_seeds.sh SIM
set -euo pipefail
sim=$1
failures=0
n=0
while IFS= read -r line; do
    options=${line%%#*}
    [ -n "${options// /}" ] || continue
    n=$((n + 1))
    # shellcheck disable=SC2086 # they are several
    if ! "$sim" $options --quiet; then
        echo "named_seeds: $line" >&2
        failures=$((failures + 1))
    fi
done <"$(dirname "$0")/named_seeds.txt"
echo "$n named seeds, $failures failures"
[ "$failures" -eq 0 ]
