#!/usr/bin/env bash
# Checks what style can be checked: formatting by clang-format, lines of at most 100 columns, files of
# at most 600 lines, functions of at most 70. What is over today stands in scripts/style_ratchet.txt
# with its length; it may shrink, never grow.
# Usage: scripts/check_style.sh
set -euo pipefail
cd "$(dirname "$0")/.."
ratchet=scripts/style_ratchet.txt
failures=0

fail() {
    echo "check_style: $*" >&2
    failures=$((failures + 1))
}

sources() {
    find raft client shardctrler shardkv tests -name '*.[ch]' | sort
}

# The length allowed for a file or file:function.
allowed() {
    local limit
    limit=$(awk -v name="$1" '$1 == name { print $2 }' "$ratchet" 2>/dev/null)
    echo "${limit:-$2}"
}

if command -v clang-format >/dev/null; then
    while IFS= read -r file; do
        clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || fail "$file is not formatted: clang-format -i $file"
    done < <(sources)
else
    echo "check_style: clang-format is missing, formatting not checked" >&2
fi

while IFS= read -r file; do
    lines=$(wc -l <"$file")
    limit=$(allowed "$file" 600)
    [ "$lines" -le "$limit" ] || fail "$file has $lines lines, allowed are $limit: split it by purpose"
    if LC_ALL=C.UTF-8 grep -nE '^.{101,}' "$file" | sed "s|^|$file:|" >&2 && [ "${PIPESTATUS[0]}" -eq 0 ]; then
        fail "$file has lines longer than 100 columns"
    fi
done < <(sources)

# A function, in our format, begins with a line that starts in column 1 and ends in ")" before a "{" in
# column 1, and ends with the "}" in column 1.
while IFS=' ' read -r name lines; do
    limit=$(allowed "$name" 70)
    [ "$lines" -le "$limit" ] || fail "$name has $lines lines, allowed are $limit"
done < <(sources | grep -v '^tests/' | xargs awk '
    FNR == 1 { head = ""; open = 0 }
    !open && /^[A-Za-z_].*\(/ && !/;$/ { head = $0 }
    !open && /^\{/ && head != "" {
        open = FNR; name = head; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
    }
    open && /^\}/ { print FILENAME ":" name, FNR - open + 1; open = 0; head = "" }
    /^[})]/ && !open { head = "" }')

if [ "$failures" -gt 0 ]; then
    echo "check_style: $failures violations" >&2
    exit 1
fi
echo "check_style: ok"
