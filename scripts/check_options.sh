#!/usr/bin/env bash
# The options that a program tells in --help are those of its man page and of its completion: neither
# lacks one, nor has one that the program does not know.
# Usage: scripts/check_options.sh   (after a build; a default test)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

violations=0
options_in() { # from standard input: every --option, once
    sed 's/\\-/-/g' | grep -oE -- '--[a-z][a-z-]*' | LC_ALL=C sort -u
}
# compare WHAT FILE_A FILE_B: options of --help, and of the other text
compare() {
    local line
    while read -r line; do
        say "check_options: $1 lacks $line, which --help tells"
        violations=$((violations + 1))
    done < <(LC_ALL=C comm -23 "$2" "$3")
    while read -r line; do
        say "check_options: $1 has $line, which --help does not tell"
        violations=$((violations + 1))
    done < <(LC_ALL=C comm -13 "$2" "$3")
}

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-options.XXXXXX")
trap 'rm -rf "$work"' EXIT

{
    "$bin/shardkv" --help
    "$bin/shardctrler" --help
} | options_in >"$work/help"
[ -s "$work/help" ] || die "the servers tell no options"
options_in <"$root/client/man/shardkv.8" >"$work/man"
options_in <"$root/client/completion/shardkv.bash" >"$work/completion"
compare client/man/shardkv.8 "$work/help" "$work/man"
compare client/completion/shardkv.bash "$work/help" "$work/completion"

# Of the CLI, each verb has a text of its own.
cli_help() {
    local verb
    "$bin/shardkv-cli" --help
    for verb in $("$bin/shardkv-cli" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
        "$bin/shardkv-cli" help "$verb"
    done
}
# Its page speaks of the servers' --join as well; --help needs no line in either.
cli_help | options_in | grep -vxE -- '--(join|help)' >"$work/help"
options_in <"$root/client/man/shardkv-cli.1" | grep -vxE -- '--(join|help)' >"$work/man"
options_in <"$root/client/completion/shardkv-cli.bash" | grep -vxE -- '--(join|help)' >"$work/completion"
compare client/man/shardkv-cli.1 "$work/help" "$work/man"
compare client/completion/shardkv-cli.bash "$work/help" "$work/completion"

# Every option of the library stands in its page.
for name in $(sed -n '/^struct shardkv_options {/,/^};/p' "$root/client/kv.h" | sed 's|/\*.*||; /^ *\*/d' |
    grep -oE '[a-z_]+(, |;|\))' | grep -oE '[a-z_]+' | grep -vE '^(line|level)$'); do
    grep -qE "\b$name\b" "$root/client/man/shardkv.3" || {
        say "check_options: client/man/shardkv.3 does not name the option $name"
        violations=$((violations + 1))
    }
done
if [ "$violations" -gt 0 ]; then
    die "$violations differences"
fi
say "check_options: ok"
