# Recovery times: a client puts one value after the other, something is broken, and what counts is how long it
# gets no acknowledgement (fail_probe.c). One group of three, three controllers. Sourced by
# scripts/failure-test.sh.

# name|aim for the median in ms|aim for the worst|what is measured
recovery_table=(
    "kill-leader|500|1500|leader killed by SIGKILL -> next acknowledged put"
    "cut-leader|500|1500|leader cut off from its group -> next acknowledged put"
    "cut-one-way|1000|1500|leader that is not heard, or hears nothing -> next acknowledged put"
    "disk-stall|1500|1500|leader's disk stands still -> another leader"
    "disk-stall-puts|500|1500|the same -> longest time without an acknowledged put"
    "stop-leader|50|50|leader stopped by SIGTERM -> longest time without an acknowledged put"
    "restart|2000|2000|all processes killed and started again -> next acknowledged put"
    "heal|2000|2000|partition healed -> all replicas have caught up and every slot is served"
)
declare -A figures
check_recoveries() {
    local name line found
    for name in ${only//,/ }; do
        found=
        for line in "${recovery_table[@]}"; do [ "${line%%|*}" != "$name" ] || found=1; done
        [ -n "$found" ] || refuse "--only: no such kind: $name"
    done
}
wanted() {
    [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]
}
now_ms() {
    echo $((${EPOCHREALTIME/./} / 1000))
}

# Everything is well and has been for a moment.
calm() {
    ask await "$bound_ms"
    sleep 0.4
    pick_leader 1 && leader=$chosen
    sleep 0.1
}
# gap_of NAME FIELD [MS]: takes a figure of the probe, unless the machine itself stood still for so long meanwhile.
gap_of() {
    local name=$1 stall
    ask gap 1200 20000
    stall=$(field stall_ms)
    if [ "${stall%.*}" -ge "${3:-60}" ]; then
        repeated=$((repeated + 1))
        figure=
        return
    fi
    figure=$(field "$2")
    figures[$name]="${figures[$name]:-} $figure"
}

try_kill-leader() {
    ask mark
    kill -KILL "${pid_of[$leader]}"
    gap_of kill-leader after_ms
    reap_node "$leader"
    do_start "$leader"
}
try_cut-leader() {
    ask mark
    do_cut "$leader" "$(others "$leader")"
    gap_of cut-leader after_ms
    net clear
}
try_cut-one-way() {
    ask mark
    if [ $((trial % 2)) = 0 ]; then
        do_rule "$leader" "$(others "$leader")" cut
    else
        do_rule "$(others "$leader")" "$leader" cut
    fi
    gap_of cut-one-way after_ms
    net clear
}
try_disk-stall() {
    local began now=$leader
    began=$(now_ms)
    ask mark
    do_freeze "$leader"
    while [ "$now" = "$leader" ] && [ $(($(now_ms) - began)) -lt 20000 ]; do
        try_ask leader 1 || reply=0
        if [ "$reply" != 0 ]; then now=$(node_of 1 "$reply"); fi
    done
    began=$(($(now_ms) - began))
    gap_of disk-stall-puts gap_ms
    if [ -n "$figure" ]; then figures[disk-stall]="${figures[disk-stall]:-} $began"; fi
    do_thaw "$leader"
}
try_stop-leader() {
    ask mark
    kill -TERM "${pid_of[$leader]}"
    gap_of stop-leader gap_ms
    reap_node "$leader"
    do_start "$leader"
}
try_restart() {
    do_kill "${all_nodes[@]}"
    ask mark
    do_start "${all_nodes[@]}"
    gap_of restart after_ms 500 # six processes that start keep two cores busy themselves
}
# Odd trials: the leaders on the side of the few; even ones: everybody alone.
try_heal() {
    local name minority
    ask begin "$trial" "$out/history-heal-$trial.tsv"
    if [ $((trial % 2)) = 1 ]; then
        pick_leader 0 && minority="$leader $chosen"
        # shellcheck disable=SC2086
        do_cut "$minority" "$(others $minority)"
    else
        for name in "${all_nodes[@]}"; do do_cut "$name" "$(others "$name")"; done
    fi
    sleep "$cut_seconds"
    ask mark
    net clear
    ask heal
    ask await "$bound_ms"
    figures[heal]="${figures[heal]:-} $(field ms)"
    ask end
    "$build/tests/fail_check" "$out/history-heal-$trial.tsv" >/dev/null || die "heal: the history is wrong (seed $seed)"
}

# measure NAME TRIALS
measure() {
    local n=$2
    repeated=0
    for ((trial = 1; trial <= n; trial++)); do
        calm
        figure=0
        "try_$1"
        if [ -z "$figure" ] && [ "$repeated" -le "$n" ]; then trial=$((trial - 1)); fi
        printf '%5d s  %-12s %2d: %s%s\n' "$SECONDS" "$1" "$trial" "$(last=${figures[$1]:-}; echo "${last##* }") ms" \
            "$([ -n "$figure" ] || echo ' (the machine stood still: again)')"
    done
}

# median and worst of figures, and their number
summary() {
    # shellcheck disable=SC2086
    printf '%s\n' $1 | sort -n | awk '{ v[NR] = $1 } END { print NR, v[int((NR + 1) / 2)], v[NR] }'
}
report_recovery() {
    local line name aim_median aim_worst what n median worst met documents=
    say ""
    printf '%-16s %6s %9s %9s %9s %9s  %s\n' kind trials median worst "aim" "aim worst" "what, in ms"
    for line in "${recovery_table[@]}"; do
        IFS='|' read -r name aim_median aim_worst what <<<"$line"
        [ -n "${figures[$name]:-}" ] || continue
        read -r n median worst <<<"$(summary "${figures[$name]}")"
        met=$(awk -v m="$median" -v w="$worst" -v am="$aim_median" -v aw="$aim_worst" \
            'BEGIN { print (m <= am && w <= aw) ? "met" : "missed" }')
        printf '%-16s %6d %9.1f %9.1f %9d %9d  %s: %s\n' "$name" "$n" "$median" "$worst" "$aim_median" "$aim_worst" \
            "$what" "$met"
        documents="$documents${documents:+,}{\"kind\":\"$name\",\"trials\":$n,\"median_ms\":$median,\"worst_ms\":$worst,"
        documents="$documents\"aim_median_ms\":$aim_median,\"aim_worst_ms\":$aim_worst,\"met\":$([ "$met" = met ] && echo true || echo false),"
        # shellcheck disable=SC2086
        documents="$documents\"figures_ms\":[$(printf '%s,' ${figures[$name]} | sed 's/,$//')]}"
    done
    if [ -n "$json" ]; then
        printf '{"seed":%d,"cores":%d,"recovery":[%s]}\n' "$seed" "$(nproc)" "$documents" >"$json"
    fi
}

run_recovery() {
    local name
    n_groups=1
    disk_mib=3072 # a log that is begun anew at each start takes a segment more each time
    prepare
    say "seed $seed; $(nproc) cores; $trials trials of each kind, $long_trials of heal"
    start_cluster
    ask probe on
    for name in kill-leader cut-leader cut-one-way disk-stall stop-leader; do
        if wanted "$name"; then measure "$name" "$trials"; fi
    done
    if wanted heal; then
        ask probe off
        measure heal "$long_trials"
        ask probe on
    fi
    if wanted restart; then
        say "        fill: $n_keys keys"
        ask fill "$n_keys" 100
        measure restart "$trials"
    fi
    ask probe off
    stop_cluster
    report_recovery
    check_processes
    [ "$verdict" = ok ] || die "$verdict"
}
