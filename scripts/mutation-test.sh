#!/usr/bin/env bash
# Plants one bug after the other (tests/mutations/*.mut) in copies of the sources under
# build-mutation/, and runs tests until one fails. A planted bug that no test notices is a survivor:
# a test is missing. The checkout itself is never touched.
#
# Usage: scripts/mutation-test.sh [OPTIONS]
#   --list        say which mutations there are, and do nothing
#   --check       only check that every mutation still applies, exactly once (no build)
#   --only NAME   only this one; may be given several times
#   --fast        only the tests that a mutation lists, not the whole suite after them
#   --jobs N      work on N at a time (default: one a core)
#   --limit S     seconds for one run of a program (default 120); a hang counts as caught
#   --readme      write the table into tests/mutations/README.md
# Ends with 1 if there is a survivor. Results: build-mutation/result.md and result.json.
#
# A failure counts only if it repeats, and if the same program passes without the planted bug.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mutations=$root/tests/mutations
work=$root/build-mutation
mode=run fast=no jobs=$(nproc) limit=120 readme=no only=()
ulimit -c 0

while [ $# -gt 0 ]; do
    case $1 in
    --list) mode=list ;;
    --check) mode=check ;;
    --only) only+=("${2:?--only wants a name}"); shift ;;
    --fast) fast=yes ;;
    --jobs) jobs=${2:?--jobs wants a number}; shift ;;
    --limit) limit=${2:?--limit wants seconds}; shift ;;
    --readme) readme=yes ;;
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) die "unknown option $1; try --help" ;;
    esac
    shift
done

# ---- What the mutations say ----

field() { # field NAME KEY: the text of a line "KEY: text" in the mutation's head
    awk -v key="$2:" '$0 == "" { exit } index($0, key) == 1 { sub(/^[^:]*: */, ""); print; exit }' \
        "$mutations/$1.mut"
}

tries() { # the commands to try, one a line
    field "$1" try | tr ',' '\n' | sed 's/^ *//; s/ *$//; /^$/d'
}

all_names() {
    (cd "$mutations" && ls ./*.mut) | sed 's|^\./||; s|\.mut$||' | LC_ALL=C sort
}

select_names() {
    if [ ${#only[@]} -eq 0 ]; then
        all_names
        return
    fi
    local name
    for name in "${only[@]}"; do
        [ -f "$mutations/$name.mut" ] || die "there is no mutation $name"
        echo "$name"
    done
}

# ---- Checking ----

check_one() { # prints what is wrong with a mutation
    local name=$1 key file command problem
    for key in rule file try; do
        [ -n "$(field "$name" "$key")" ] || echo "it has no line \"$key:\""
    done
    file=$(field "$name" file)
    case $file in
    tests/* | ../* | /*) echo "$file is not shipped code" ;;
    esac
    if [ ! -f "$root/$file" ]; then
        echo "there is no file $file"
    elif ! problem=$(awk -f "$mutations/apply.awk" "$mutations/$name.mut" "$root/$file" 2>&1 >/dev/null); then
        echo "it does not apply to $file: $problem"
    fi
    while read -r command _; do
        [ -f "$root/tests/unit/$command.c" ] || [ -f "$root/tests/scenario/$command.c" ] ||
            grep -rqsE "add_executable\($command( |\$)" "$root"/*/CMakeLists.txt ||
            echo "there is no program $command to try"
    done < <(tries "$name")
}

check_all() {
    local name problem failures=0 n=0
    while read -r name; do
        n=$((n + 1))
        while IFS= read -r problem; do
            say "$name: $problem" >&2
            failures=$((failures + 1))
        done < <(check_one "$name")
    done < <(select_names)
    [ "$failures" -eq 0 ] || die "$failures problems: a mutation must fit the tree; adapt or replace it"
    say "$n mutations apply"
}

case $mode in
list)
    while read -r name; do
        printf '%-36s %s\n' "$name" "$(field "$name" rule)"
    done < <(select_names)
    exit 0
    ;;
check)
    check_all
    exit 0
    ;;
esac

# ---- Copies and builds ----

# Brings a copy of the sources up to date, touching only files that differ: builds stay incremental.
sync_copy() {
    local copy=$1 file
    mkdir -p "$copy"
    (cd "$root" && git ls-files -co --exclude-standard) >"$copy.files"
    while IFS= read -r file; do
        [ -f "$root/$file" ] || continue
        cmp -s "$root/$file" "$copy/$file" && continue
        mkdir -p "$copy/$(dirname "$file")"
        cp "$root/$file" "$copy/$file"
    done <"$copy.files"
    (cd "$copy" && find . -type f | sed 's|^\./||' | LC_ALL=C sort) |
        LC_ALL=C comm -23 - <(LC_ALL=C sort "$copy.files") |
        while IFS= read -r file; do rm -f "$copy/$file"; done
}

configure() { # a worker's build: no warnings, since a planted bug may leave something unused
    local dir=$1 launcher=()
    if command -v ccache >/dev/null; then
        launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    cmake -S "$dir/src" -B "$dir/build" -G Ninja -DCMAKE_C_FLAGS=-w "${launcher[@]}" >"$dir/cmake.log" 2>&1 ||
        { tail -n 20 "$dir/cmake.log" >&2; die "cmake failed"; }
}

make_targets() { # make_targets DIR TARGET...
    local dir=$1
    shift
    CCACHE_BASEDIR=$dir CCACHE_NOHASHDIR=1 ninja -C "$dir/build" -j"$threads" "$@" >"$dir/ninja.log" 2>&1
}

plant() { # plant DIR NAME: the checkout's file, with the bug
    awk -f "$mutations/apply.awk" "$mutations/$2.mut" "$root/$(field "$2" file)" >"$1/src/$(field "$2" file)"
}

unplant() {
    local file
    file=$(field "$2" file)
    cp "$root/$file" "$1/src/$file"
}

# ---- Running ----

run_command() { # run_command DIR COMMAND...: its exit code; what it said is in DIR/run.log
    local dir=$1 program code=0
    shift
    program=$dir/build/tests/$1
    [ -x "$program" ] || program=$dir/build/bin/$1
    shift
    rm -rf "$dir/tmp"
    mkdir -p "$dir/tmp"
    (cd "$dir/tmp" && TMPDIR=$dir/tmp timeout -k 5 "$limit" stdbuf -oL "$program" "$@" || exit $?) \
        >"$dir/run.log" 2>&1 </dev/null 9>&- || code=$?
    rm -rf "$dir/tmp"
    return $code
}

function_of() { # the test function that failed, or was running at the end
    local name
    name=$(sed -n 's/^\[  FAILED  \] \([A-Za-z_][A-Za-z0-9_]*\)$/\1/p' "$1" | head -n 1)
    [ -n "$name" ] || name=$(sed -n 's/^\[ RUN      \] //p' "$1" | tail -n 1)
    echo "${name:--}"
}

manner_of() { # manner_of CODE LOG: how it was caught
    local assertion
    assertion=$(sed -n 's|^.*/src/\([a-z_/0-9]*\.[ch]\):[0-9]*: \([a-z_0-9]*\): assertion failed: .*|ASSERT in \1, \2|p' "$2" | head -n 1)
    case $1 in
    124 | 137) echo "timeout" ;;
    *) echo "${assertion:-$([ "$1" -ge 128 ] && echo crash || echo check)}" ;;
    esac
}

# The default tests but for those of real processes and what mutations list first; quick ones first.
rest_of_suite() {
    { cd "$root/tests" && ls unit/*_test.c scenario/*_test.c; } | sed 's|.*/||; s|\.c$||' |
        grep -vxF "$(tries "$1")" |
        awk '{ print /chaos/ ? 3 : /^(net_|shardkv|kvraft)/ ? 2 : 1, $0 }' | sort -s -k1,1n | cut -d' ' -f2-
}

# Runs one command against the planted bug; true if it is caught: $by, $how and $where say the rest.
try_command() {
    local dir=$1 name=$2 command=$3 code=0 again=0
    local words
    read -r -a words <<<"$command"
    make_targets "$dir" "${words[0]}" || { outcome=broken; return 0; }
    run_command "$dir" "${words[@]}" || code=$?
    [ "$code" -ne 0 ] || return 1
    by=$command where=$(function_of "$dir/run.log") how=$(manner_of "$code" "$dir/run.log")
    cp "$dir/run.log" "$work/logs/$name.log"
    if [ "$how" != timeout ]; then
        run_command "$dir" "${words[@]}" || again=$?
        [ "$again" -ne 0 ] || return 1
    fi
    if ! grep -qxF "$command" "$work/sound"; then # not seen passing without the bug
        unplant "$dir" "$name"
        make_targets "$dir" "${words[0]}"
        code=0
        run_command "$dir" "${words[@]}" || code=$?
        plant "$dir" "$name"
        [ "$code" -eq 0 ] || return 1
        echo "$command" >>"$work/sound"
    fi
    outcome=caught
    return 0
}

judge() { # judge DIR NAME: writes results/NAME
    local dir=$1 name=$2 begin outcome=survived by=- where=- how=- command listed=yes
    begin=$(date +%s%N)
    plant "$dir" "$name"
    while IFS= read -r command; do
        try_command "$dir" "$name" "$command" && break
    done < <(tries "$name")
    if [ "$outcome" = survived ] && [ "$fast" = no ]; then
        listed=no
        while IFS= read -r command; do
            try_command "$dir" "$name" "$command" && break
        done < <(rest_of_suite "$name")
    fi
    unplant "$dir" "$name"
    case $outcome in
    survived) by=- where=- how=- ;;
    broken) cp "$dir/ninja.log" "$work/logs/$name.log" ;;
    esac
    local tenths=$((($(date +%s%N) - begin) / 100000000))
    printf '%s\t%s\t%s\t%s\t%s\t%d.%d\n' "$outcome" "$by" "$where" "$how" "$listed" \
        $((tenths / 10)) $((tenths % 10)) >"$work/results/$name"
    say "$(printf '%-36s %-8s %6d.%ds  %s %s (%s)' "$name" "$outcome" $((tenths / 10)) $((tenths % 10)) "$by" "$where" "$how")"
}

# Each worker takes what none has taken yet. First every listed program must pass as things are.
worker() {
    local dir=$work/worker-$1 command name words
    mkdir -p "$dir"
    sync_copy "$dir/src"
    configure "$dir"
    while IFS= read -r command; do
        mkdir "$work/claims/$(tr -c 'A-Za-z0-9_\n' '+' <<<"$command").sound" 2>/dev/null || continue
        read -r -a words <<<"$command"
        if ! make_targets "$dir" "${words[0]}"; then
            tail -n 8 "$dir/ninja.log" >&2
            die "$command can't be built, without any planted bug"
        elif run_command "$dir" "${words[@]}"; then
            echo "$command" >>"$work/sound"
        else
            say "$command fails without any planted bug: it catches nothing" >&2
        fi
    done <"$work/listed"
    while read -r name; do
        mkdir "$work/claims/$name" 2>/dev/null || continue
        judge "$dir" "$name"
    done <"$work/names"
}

# ---- Results ----

each_result() { # each_result FUNCTION: calls it with name, rule, file and the fields of the result
    local name outcome by where how listed seconds
    while read -r name; do
        [ -f "$work/results/$name" ] || { say "no result: $name" >&2; continue; }
        IFS=$'\t' read -r outcome by where how listed seconds <"$work/results/$name"
        "$1" "$name" "$(field "$name" rule)" "$(field "$name" file)" "$outcome" "$by" "$where" "$how" "$seconds"
    done <"$work/names"
}

row() {
    local caught="\`$5\`: \`$6\`"
    case $4 in
    survived) caught="**nothing: it survives**" ;;
    broken) caught="**it does not build**" ;;
    esac
    case $7 in
    timeout) caught="$caught, by timeout" ;;
    ASSERT*) caught="$caught, ${7/ASSERT in/by an ASSERT of}" ;;
    crash) caught="$caught, by a crash" ;;
    esac
    printf '| `%s` | `%s` | %s | %s | %s |\n' "$1" "$3" "$2" "$caught" "$8"
}

quoted() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

object() {
    printf '  {"name": %s, "rule": %s, "file": %s, "outcome": %s, "program": %s, "function": %s, "how": %s, "seconds": %s}\n' \
        "$(quoted "$1")" "$(quoted "$2")" "$(quoted "$3")" "$(quoted "$4")" "$(quoted "$5")" "$(quoted "$6")" "$(quoted "$7")" "$8"
}

write_results() {
    {
        echo "| mutation | file | the rule it breaks | caught by | s |"
        echo "|---|---|---|---|---|"
        each_result row
    } >"$work/result.md"
    {
        echo "["
        each_result object | sed '$!s/$/,/'
        echo "]"
    } >"$work/result.json"
}

update_readme() {
    awk -v table="$work/result.md" '
        /<!-- table -->/ { print; while ((getline line <table) > 0) print line; skip = 1; next }
        /<!-- end of table -->/ { skip = 0 }
        !skip' "$mutations/README.md" >"$work/README.md"
    cp "$work/README.md" "$mutations/README.md"
}

# Ends the workers with all that they started: by descent from this very process, never by name.
end_tree() { # the parent first, or it would go on with its next step
    local child children
    children=$(pgrep -P "$1")
    kill "$1" 2>/dev/null || true
    for child in $children; do
        end_tree "$child"
    done
}

stop_workers() {
    local child
    for child in $(jobs -p); do
        end_tree "$child"
    done
}

# ---- All of it ----

check_all
mkdir -p "$work"
exec 9>"$work/lock"
flock -n 9 || die "another run uses $work"
rm -rf "$work/results" "$work/claims" "$work/logs" "$work/sound"
mkdir -p "$work/results" "$work/claims" "$work/logs"
: >"$work/sound"
select_names >"$work/names"
while read -r name; do tries "$name"; done <"$work/names" | LC_ALL=C sort -u >"$work/listed"
total=$(wc -l <"$work/names")
[ "$jobs" -le "$total" ] || jobs=$total
threads=$((($(nproc) + jobs - 1) / jobs))
trap 'stop_workers; exit 130' INT TERM
for ((i = 1; i <= jobs; i++)); do
    worker "$i" &
done
wait
write_results
[ "$readme" = no ] || update_readme
caught=$(awk -F '\t' '$1 == "caught"' "$work"/results/* | wc -l)
say "$caught of $total caught; $work/result.md"
[ "$caught" -eq "$total" ] || die "not caught: $(cd "$work/results" && grep -Lx $'caught\t.*' -- * | tr '\n' ' ')"
