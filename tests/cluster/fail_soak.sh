# An hour, or however long, of mixed load with random faults: rounds of one fault after the other, judged like
# all others, while the memory, open files and disk of every process are sampled. Sourced by
# scripts/failure-test.sh.

sample_s=5
# A median may grow by a fifth, and by a little more where it is small: pages that LevelDB maps, segments of the
# log that wait to be used again.
declare -A slack=([rss]=24576 [fds]=10 [disk]=98304)

# "SECONDS NODE PID RSS_KIB FDS DISK_KIB" for every process, looked up by its folder: they come and go.
sample() { # SECONDS
    local at=$1 cmdline node pid key value rss fds disk ballast
    for cmdline in /proc/[0-9]*/cmdline; do
        node=$(tr '\0' ' ' <"$cmdline" 2>/dev/null | sed -n "s|.*shard[a-z]* .*--data $work/disk/\([^/]*\)/data .*|\1|p") || true
        pid=${cmdline#/proc/} pid=${pid%/cmdline}
        if [ "$pid" = "$load_pid" ]; then node=clients; fi
        [ -n "$node" ] || continue
        rss='' disk=0
        while read -r key value _; do
            if [ "$key" = VmRSS: ]; then rss=$value; fi
        done <"/proc/$pid/status" 2>/dev/null || continue
        fds=("/proc/$pid/fd/"*)
        if [ "$node" != clients ]; then
            # shellcheck disable=SC2046
            set -- $(stat -f -c '%b %f %S' "$work/disk/$node" 2>/dev/null || echo 0 0 1)
            ballast=$(stat -c %b "$work/disk/$node/ballast" 2>/dev/null || echo 0)
            disk=$((($1 - $2) * $3 / 1024 - ballast / 2))
        fi
        [ -z "$rss" ] || printf '%d\t%s\t%d\t%d\t%d\t%d\n' "$at" "$node" "$pid" "$rss" "${#fds[@]}" "$disk"
    done
}
sample_always() {
    local began=$SECONDS
    while :; do
        sample $((SECONDS - began)) >>"$out/samples.tsv" 2>/dev/null || true
        sleep "$sample_s"
    done
}

# The rule: of each node and figure, the last third's median is at most 1.2 times the first third's, or that and
# the slack; the first tenth is left out.
judge_samples() {
    awk -F'\t' -v slack_rss="${slack[rss]}" -v slack_fds="${slack[fds]}" -v slack_disk="${slack[disk]}" '
        function median(values, n,   i, j, v) {
            for (i = 2; i <= n; i++) {
                v = values[i]
                for (j = i - 1; j > 0 && values[j] > v; j--) values[j + 1] = values[j]
                values[j + 1] = v
            }
            return values[int((n + 1) / 2)]
        }
        { time[NR] = $1; node[NR] = $2; f[NR, 1] = $4; f[NR, 2] = $5; f[NR, 3] = $6; nodes[$2] = 1; end = $1 }
        END {
            name[1] = "rss"; name[2] = "fds"; name[3] = "disk"
            slack[1] = slack_rss; slack[2] = slack_fds; slack[3] = slack_disk
            from = end * 0.1; third = (end - from) / 3
            for (x in nodes) for (k = 1; k <= 3; k++) {
                n = m = 0
                for (i = 1; i <= NR; i++) {
                    if (node[i] != x || time[i] < from) continue
                    if (time[i] < from + third) early[++n] = f[i, k]
                    if (time[i] >= end - third) late[++m] = f[i, k]
                }
                if (n == 0 || m == 0) { print "few", x, name[k], 0, 0; continue }
                a = median(early, n); b = median(late, m)
                flat = (b <= a * 1.2 || b <= a + slack[k])
                print flat ? "flat" : "grew", x, name[k], a, b
            }
        }' "$out/samples.tsv" | sort -k3,3 -k2,2
}

draw_plot() {
    local node figure column title unit
    if ! command -v gnuplot >/dev/null; then
        say "no plot: gnuplot is not installed (Debian: gnuplot-nox)"
        return
    fi
    {
        echo "set terminal pngcairo size 1200,1400; set output '$plot'; set datafile separator \"\\t\""
        echo "set multiplot layout 3,1; set key outside right; set xlabel 'minutes'; set yrange [0:*]"
        for figure in "4:resident memory, MiB:1024" "5:open files:1" "6:disk, MiB:1024"; do
            IFS=: read -r column title unit <<<"$figure"
            echo "set title '$title'"
            printf 'plot '
            for node in "${all_nodes[@]}" clients; do
                printf "'%s' using (\$1/60):(strcol(2) eq '%s' ? \$%d/%d : NaN) with points pointtype 7 pointsize 0.3 title '%s', " \
                    "$out/samples.tsv" "$node" "$column" "$unit" "$node"
            done
            echo
        done
    } >"$out/plot.gp"
    if gnuplot "$out/plot.gp" 2>"$out/plot.err"; then say "plot: $plot"; else say "no plot: $(head -n 2 "$out/plot.err")"; fi
}

run_soak() {
    local end fault growth verdicts
    minutes=${minutes:-0}
    [ "$minutes" -gt 0 ] || minutes=60
    end=$((minutes * 60))
    if [ ${#selected[@]} = 0 ]; then
        for fault in "${fault_table[@]}"; do selected+=("${fault%%|*}"); done
    fi
    prepare
    say "seed $seed; $(nproc) cores; $minutes minutes"
    start_cluster
    sample_always &
    sampler=$!
    disown
    while [ "$SECONDS" -lt "$end" ] && [ "$verdict" = ok ]; do
        # Every second round is a mix.
        fault=mix
        if [ $((n_rounds % 2)) = 0 ]; then pick "${selected[@]}" && fault=$chosen; fi
        run_round "$fault"
    done
    kill "$sampler" 2>/dev/null || true
    net stats
    say "network: $reply"
    stop_cluster
    report_rounds
    verdicts=$(judge_samples)
    say ""
    printf '%-5s %-8s %-5s %12s %12s\n' verdict node what "first third" "last third"
    awk '{ printf "%-7s %-8s %-5s %12d %12d\n", $1, $2, $3, $4, $5 }' <<<"$verdicts"
    draw_plot
    growth=$(grep -c '^grew' <<<"$verdicts" || true)
    if [ -n "$json" ]; then
        printf '{"seed":%d,"cores":%d,"minutes":%d,"faults":%s,"grew":%d,"figures":[%s]}\n' "$seed" "$(nproc)" "$minutes" \
            "$(rounds_json)" "$growth" "$(awk '{ printf "%s{\"node\":\"%s\",\"what\":\"%s\",\"first\":%d,\"last\":%d,\"flat\":%s}",
                (NR > 1 ? "," : ""), $2, $3, $4, $5, ($1 == "grew" ? "false" : "true") }' <<<"$verdicts")" >"$json"
    fi
    [ "$verdict" = ok ] || die "$fault: $verdict (seed $seed)"
    [ "$growth" = 0 ] || die "$growth figures grew (seed $seed)"
    say "soak OK after $SECONDS s: no anomaly; memory, files and disk are flat"
}
