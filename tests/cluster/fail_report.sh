# What the failure test says of its rounds: a table and a JSON document. Sourced by scripts/failure-test.sh.

list_faults() {
    local line
    for line in "${fault_table[@]}"; do printf '%-15s %s\n' "${line%%|*}" "${line#*|}"; done
}
check_fault() {
    list_faults | awk -v name="$1" '$1 == name { found = 1 } END { exit !found }' ||
        refuse "no such fault: $1 (see --list)"
}

declare -A sum_rounds sum_operations sum_unknown sum_refused sum_tokens worst_gap worst_converged fault_verdict
reported=()

# Takes the figures of the round that has just ended.
note_round() {
    local fault=$1
    if [ -z "${sum_rounds[$fault]:-}" ]; then
        reported+=("$fault")
        sum_rounds[$fault]=0 sum_operations[$fault]=0 sum_unknown[$fault]=0 sum_refused[$fault]=0 sum_tokens[$fault]=0
        worst_gap[$fault]=0 worst_converged[$fault]=0 fault_verdict[$fault]=ok
    fi
    sum_rounds[$fault]=$((sum_rounds[$fault] + 1))
    sum_operations[$fault]=$((sum_operations[$fault] + ${operations:-0}))
    sum_unknown[$fault]=$((sum_unknown[$fault] + ${unknown:-0}))
    sum_refused[$fault]=$((sum_refused[$fault] + ${refused:-0}))
    sum_tokens[$fault]=$((sum_tokens[$fault] + ${tokens:-0}))
    if [ "$gap_ms" -gt "${worst_gap[$fault]}" ]; then worst_gap[$fault]=$gap_ms; fi
    if [ "${converged_ms:-0}" -gt "${worst_converged[$fault]}" ]; then worst_converged[$fault]=$converged_ms; fi
    if [ "$verdict" != ok ]; then fault_verdict[$fault]=$verdict; fi
}

json_text() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//$'\n'/ }"
}
round_json() {
    local fault=$1
    printf '{"fault":"%s","rounds":%d,"operations":%d,"unknown":%d,"refused":%d,"tokens":%d,' "$fault" \
        "${sum_rounds[$fault]}" "${sum_operations[$fault]}" "${sum_unknown[$fault]}" "${sum_refused[$fault]}" \
        "${sum_tokens[$fault]}"
    printf '"worst_gap_ms":%d,"worst_converged_ms":%d,"verdict":%s}' "${worst_gap[$fault]}" \
        "${worst_converged[$fault]}" "$(json_text "${fault_verdict[$fault]}")"
}
rounds_json() {
    local fault comma=
    printf '['
    for fault in "${reported[@]}"; do
        printf '%s' "$comma"
        round_json "$fault"
        comma=,
    done
    printf ']'
}

report_rounds() {
    local fault
    say ""
    printf '%-15s %6s %10s %8s %8s %8s %13s %13s  %s\n' fault rounds operations unknown refused tokens \
        "worst gap ms" "well after ms" verdict
    for fault in "${reported[@]}"; do
        printf '%-15s %6d %10d %8d %8d %8d %13d %13d  %s\n' "$fault" "${sum_rounds[$fault]}" \
            "${sum_operations[$fault]}" "${sum_unknown[$fault]}" "${sum_refused[$fault]}" "${sum_tokens[$fault]}" \
            "${worst_gap[$fault]}" "${worst_converged[$fault]}" "${fault_verdict[$fault]}"
    done
    if [ -n "$json" ]; then
        printf '{"seed":%d,"cores":%d,"seconds":%d,"faults":%s}\n' "$seed" "$(nproc)" "$SECONDS" "$(rounds_json)" >"$json"
    fi
}
