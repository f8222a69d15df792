#!/usr/bin/env bash
# Hunts for bugs: runs fresh seeds of the simulator (build/bin/sim) in several processes until the
# time is over or one fails. Of a failure it tells seed, commit, broken invariant and the last events,
# then makes the run smaller as long as it fails in the same way: fewer groups, replicas, controllers
# and clients, faults left out one by one, fewer steps; and prints the command line that is left.
# At the end it sums up. Everything it writes is in build/hunt/.
# Usage: scripts/sim-hunt.sh [--minutes M] [--jobs J] [--profile NAME] [--from SEED] [--no-shrink]
set -euo pipefail
cd "$(dirname "$0")/.."

build=${SHARDKV_BUILD:-build}
sim=$build/bin/sim
minutes=1
jobs=$(nproc)
profile=standard
from=
shrink=1
run_limit_s=300 # a single run that takes longer has failed

die() {
    echo "sim-hunt: $*" >&2
    exit 2
}

number() {
    if ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
        die "$1 wants a positive number, not '$2'"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    --no-shrink)
        shrink=0
        shift
        continue
        ;;
    --help)
        sed -n '2,7s/^# //p' scripts/sim-hunt.sh
        exit 0
        ;;
    esac
    [ $# -ge 2 ] || die "$1: unknown, or its value is missing (see --help)"
    case $1 in
    --minutes) number "$1" "$2" && minutes=$2 ;;
    --jobs) number "$1" "$2" && jobs=$2 ;;
    --profile) profile=$2 ;;
    --from) number "$1" "$2" && from=$2 ;;
    *) die "$1: unknown (see --help)" ;;
    esac
    shift 2
done
[ -x "$sim" ] || die "$sim is missing: ninja -C $build sim"
if [ -z "$from" ]; then
    from=$(od -An -N5 -tu8 /dev/urandom | tr -d ' ')
fi
# Before anything runs: is there such a profile?
"$sim" --seed 1 --steps 1 --profile "$profile" --quiet >/dev/null || die "no run with profile '$profile'"

hunt=$build/hunt
mkdir -p "$hunt"
rm -f "$hunt"/job.* "$hunt"/failure.* "$hunt"/shrink.* "$hunt"/summary.json
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)

pids=()
stop_children() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}
trap stop_children EXIT
trap 'exit 130' INT TERM

echo "hunting: profile $profile, commit $commit, seeds from $from, $jobs processes, $minutes minutes"
seconds=$((minutes * 60))
last=$((from + 1000000000))
for ((job = 0; job < jobs; job++)); do
    timeout "$((seconds + run_limit_s))" "$sim" --seeds "$((from + job))..$last" --stride "$jobs" \
        --seconds "$seconds" --profile "$profile" --json >"$hunt/job.$job" 2>"$hunt/job.$job.err" &
    pids+=($!)
done

# Until all have ended, or the first has failed.
failed=
running=$jobs
while [ "$running" -gt 0 ] && [ -z "$failed" ]; do
    status=0
    ended=
    wait -n -p ended "${pids[@]}" || status=$?
    running=$((running - 1))
    left=()
    for ((job = 0; job < ${#pids[@]}; job++)); do
        [ "${pids[job]}" = "$ended" ] || left+=("${pids[job]}")
    done
    if [ "$status" -ne 0 ]; then
        failed=$status
    fi
    pids=("${left[@]+"${left[@]}"}")
done
stop_children

# The last complete line of each run's JSON; adds up what is a number.
sum_up() {
    find "$hunt" -name 'job.*' ! -name '*.err' -exec cat {} + | awk '
        /^\{"seed":/ && /\}$/ {
            seeds++
            gsub(/[{}"]/, "")
            n = split($0, fields, ", ")
            for (i = 1; i <= n; i++) {
                split(fields[i], pair, ": ")
                key = pair[1]
                if (key == "seed" || key == "profile" || key ~ /_per_s$/ || key == "times_life") continue
                if (!(key in total)) order[++keys] = key
                if (key == "settle_s") { if (pair[2] > total[key]) total[key] = pair[2] }
                else total[key] += pair[2]
            }
        }
        END {
            printf "{\"seeds\": %d, \"failures\": %d", seeds, failures
            for (i = 1; i <= keys; i++) printf ", \"%s\": %s", order[i], total[order[i]]
            if (total["steps_s"] > 0) {
                printf ", \"operations_per_s\": %.1f", total["operations"] / total["steps_s"]
                printf ", \"faults_per_s\": %.2f", total["faults"] / total["steps_s"]
            }
            if (total["cpu_s"] > 0) {
                printf ", \"events_per_s\": %.0f", total["events"] / total["cpu_s"]
                printf ", \"times_life\": %.0f", total["simulated_s"] / total["cpu_s"]
            }
            print "}"
        }' failures="${failed:+1}" CONVFMT=%.3f OFMT=%.3f |
        sed "s/^{/{\"profile\": \"$profile\", \"commit\": \"$commit\", \"from\": $from, /"
}
sum_up >"$hunt/summary.json"

# The first line that says what is broken, without what differs from run to run.
signature() {
    sed -nE -e 's/^broken invariant: ([^:]*):.*/\1/p' -e 's/.*assertion failed: (.*)/\1/p' \
        -e 's/.*ERROR: (AddressSanitizer: [a-z-]+).*/\1/p' -e 's/.*runtime error: (.*)/\1/p' "$1" | awk 'NR == 1'
}

# Runs the seed with the options; true if it fails in the same way.
same_failure() {
    local limit=$run_limit_s
    tries=$((tries + 1))
    if timeout "$limit" "$sim" --seed "$seed" --profile "$profile" --quiet "$@" >"$hunt/shrink.out" 2>&1; then
        return 1
    fi
    [ "$(signature "$hunt/shrink.out")" = "$broken" ]
}

# Lowers the option --$1 from $2 to the least that still fails, by halves, then by one.
lower() {
    local option=$1 low=$3 high=$2 middle
    while [ "$low" -lt "$high" ]; do
        middle=$(((low + high) / 2))
        if same_failure "${kept[@]+"${kept[@]}"}" "--$option" "$middle"; then
            high=$middle
        else
            low=$((middle + 1))
        fi
    done
    if [ "$high" -lt "$2" ]; then
        kept+=("--$option" "$high")
        echo "  fails with --$option $high"
    fi
}

shrink_failure() {
    local without='' fault steps
    kept=()
    tries=0
    echo "making it smaller:"
    if ! same_failure; then
        echo "  it does not fail alone in the same way: $(signature "$hunt/shrink.out")"
        return
    fi
    lower groups 4 1
    lower replicas 5 1
    lower ctrlers 5 1
    lower clients 30 1
    for fault in $("$sim" --list | awk 'all { print $1 } /^faults:/ { all = 1 }'); do
        if same_failure "${kept[@]+"${kept[@]}"}" --without "$without$fault"; then
            without=$without$fault,
        fi
    done
    if [ -n "$without" ]; then
        kept+=(--without "${without%,}")
        echo "  fails without ${without%,}"
    fi
    steps=$("$sim" --list | awk -v name="$profile" '$1 == name { print 300 }')
    lower steps "${steps:-300}" 1
    same_failure "${kept[@]+"${kept[@]}"}" || true
    cp "$hunt/shrink.out" "$hunt/failure.small"
    echo "smallest, after $tries runs:"
    echo "  $sim --seed $seed --profile $profile${kept[*]+ ${kept[*]}}"
    sed -n 1,4p "$hunt/failure.small"
}

result=0
if [ -n "$failed" ]; then
    result=1
    for file in "$hunt"/job.*.err; do
        if [ -s "$file" ] && [ -n "$(signature "$file")" ]; then
            cp "$file" "$hunt/failure.txt"
        fi
    done
    if [ -s "$hunt/failure.txt" ]; then
        broken=$(signature "$hunt/failure.txt")
        seed=$(sed -nE 's/^seed ([0-9]+), .*/\1/p' "$hunt/failure.txt" | awk 'NR == 1')
        echo "FAILED: seed ${seed:-unknown}, commit $commit, profile $profile: $broken"
        cat "$hunt/failure.txt"
        if [ "$shrink" -eq 1 ] && [ -n "$seed" ]; then
            shrink_failure
        fi
    else
        echo "FAILED: a process ended with status $failed and said nothing; see $hunt/job.*.err"
        cat "$hunt"/job.*.err
    fi
fi
echo "summary ($hunt/summary.json):"
cat "$hunt/summary.json"
exit "$result"
