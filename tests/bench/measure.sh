# What the servers' processes used, and samples of it. Sourced by scripts/bench.sh.
#
# A sample is a line of $samples: load, system, round, metric, value, with tabs between.

clk_tck=$(getconf CLK_TCK)

# Of the processes in $@, summed: CPU ticks, ticks in the kernel, bytes written to disk (more than the %d of
# mawk can tell), resident kB.
usage_of() {
    local pid
    for pid in "$@"; do
        cat "/proc/$pid/stat" "/proc/$pid/io" "/proc/$pid/status" 2>/dev/null
    done | awk '
        $2 ~ /^\(/ { ticks += $14 + $15; kernel += $15 }
        $1 == "write_bytes:" { written += $2 }
        $1 == "VmRSS:" { resident += $2 }
        END { printf "%d %d %.0f %d\n", ticks, kernel, written, resident }'
}

# json_number NAME: a number out of the one JSON object on standard input.
json_number() {
    sed -nE "s/.*\"$1\": ?(-?[0-9.eE+-]+).*/\1/p"
}

sample() {
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" >>"$samples"
}

# sample_run LOAD SYSTEM ROUND BEFORE AFTER JSON: what a run of a generator and its servers came to.
sample_run() {
    local load=$1 system=$2 round=$3 json=$6 name ops
    ops=$(json_number ops <<<"$json")
    [ "${ops:-0}" -gt 0 ] || die "$system did no operation of $load: $json"
    for name in ops_per_sec p50_us p99_us p999_us max_us errors unknown; do
        sample "$load" "$system" "$round" "$name" "$(json_number $name <<<"$json")"
    done
    awk -v before="$4" -v after="$5" -v ops="$ops" -v tck="$clk_tck" \
        -v client="$(json_number client_cpu_seconds <<<"$json")" -v head="$load	$system	$round	" '
        BEGIN {
            split(before, b, " "); split(after, a, " ")
            us = 1e6 / tck / ops
            printf "%scpu_us_per_op\t%.3f\n", head, (a[1] - b[1]) * us
            printf "%ssystem_cpu_us_per_op\t%.3f\n", head, (a[2] - b[2]) * us
            printf "%sclient_cpu_us_per_op\t%.3f\n", head, client * 1e6 / ops
            printf "%swritten_bytes_per_op\t%.1f\n", head, (a[3] - b[3]) / ops
            printf "%sresident_mib\t%.1f\n", head, a[4] / 1024
        }' >>"$samples"
}

# idle_cores SECONDS PIDS...: of one core, what the processes use without a load.
idle_cores() {
    local seconds=$1 before after
    shift
    before=$(usage_of "$@")
    sleep "$seconds"
    after=$(usage_of "$@")
    awk -v a="${after%% *}" -v b="${before%% *}" -v s="$seconds" -v tck="$clk_tck" \
        'BEGIN { printf "%.4f\n", (a - b) / tck / s }'
}
