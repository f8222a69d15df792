# The report of scripts/bench.sh, out of samples (load, system, round, metric, value): a table of what is
# wanted, one of all figures, a JSON document and the data of the plot.

BEGIN { FS = "\t" }

{
    key = $1 SUBSEP $2 SUBSEP $4
    if (!(key in n)) keys[++n_keys] = key
    n[key]++
    value[key, n[key]] = $5
    by_round[key, $3] = $5
    if (!(($1, $2) in seen)) {
        seen[$1, $2] = 1
        runs[++n_runs] = $1 SUBSEP $2
    }
}

# Sorts sorted[1..count]; sets least, median, greatest.
function settle_list(count,   i, j, t) {
    for (i = 2; i <= count; i++) {
        t = sorted[i]
        for (j = i - 1; j > 0 && sorted[j] > t; j--) sorted[j + 1] = sorted[j]
        sorted[j + 1] = t
    }
    least = sorted[1]
    greatest = sorted[count]
    median = count % 2 ? sorted[(count + 1) / 2] : (sorted[count / 2] + sorted[count / 2 + 1]) / 2
}

# Takes the samples of one metric; false if there are none.
function take(load, system_name, metric,   i, key, count) {
    key = load SUBSEP system_name SUBSEP metric
    count = (key in n) ? n[key] : 0
    for (i = 1; i <= count; i++) sorted[i] = value[key, i] + 0
    if (count) settle_list(count)
    return count
}

function ratios(load, metric,   i, count, ours, etcd) {
    ours = load SUBSEP "ours" SUBSEP metric
    etcd = load SUBSEP "etcd" SUBSEP metric
    if (!(ours in n) || !(etcd in n)) return 0
    for (i in by_round_keys) delete by_round_keys[i]
    count = 0
    for (i = 1; i <= n[ours]; i++)
        if (((etcd, i) in by_round) && by_round[etcd, i] > 0) sorted[++count] = by_round[ours, i] / by_round[etcd, i]
    if (count) settle_list(count)
    return count
}

function shown(x) {
    return x == "" ? "-" : (x >= 100 || x == int(x) ? sprintf("%.0f", x) : sprintf("%.3g", x))
}

function median_of(load, system_name, metric) {
    return take(load, system_name, metric) ? median : ""
}

function met(relation, bound, x) {
    return relation == ">=" ? x >= bound : x <= bound
}

function wanted_row(line,   f, count, judged, verdict) {
    split(line, f, "|")
    count = f[4] == "ratio" ? ratios(f[1], f[3]) : take(f[1], "ours", f[3])
    if (!count && !take(f[1], "ours", f[3])) return
    if (!count) {
        verdict = "no etcd"
        printf "%-10s %-32s %10s %10s %20s %8s  %s\n", f[1], f[2], shown(median), "-", "-", f[5] shown(f[6]), verdict
        return
    }
    # A failover or a restart is judged by the ratio of the medians: its trials are not pairs.
    judged = f[4] == "worst" ? (f[5] == "<=" ? greatest : least) : median
    spread = shown(least) "/" shown(median) "/" shown(greatest)
    low = least; middle = median; high = greatest
    if (f[4] == "ratio" && f[3] == "ms") judged = median_of(f[1], "ours", f[3]) / median_of(f[1], "etcd", f[3])
    verdict = met(f[5], f[6] + 0, judged) ? "met" : "NOT MET"
    printf "%-10s %-32s %10s %10s %20s %8s  %s\n", f[1], f[2], shown(median_of(f[1], "ours", f[3])),
        shown(median_of(f[1], "etcd", f[3])), spread (f[3] == "ms" ? " (" shown(judged) ")" : ""),
        f[5] shown(f[6]), verdict
    rows_json = rows_json sprintf("%s\n    {\"load\":\"%s\",\"figure\":\"%s\",\"metric\":\"%s\",\"how\":\"%s\",\"relation\":\"%s\",\"wanted\":%s,\"least\":%.4f,\"median\":%.4f,\"greatest\":%.4f,\"judged\":%.4f,\"met\":%s}",
        rows_json == "" ? "" : ",", f[1], f[2], f[3], f[4], f[5], f[6], low, middle, high, judged,
        verdict == "met" ? "true" : "false")
}

function figures_table(   i, part, j, names, count) {
    count = split("ops_per_sec p50_us p99_us p999_us max_us cpu_us_per_op client_cpu_us_per_op written_bytes_per_op resident_mib", names, " ")
    printf "\nMedians\n%-12s %-5s %9s %8s %8s %8s %8s %8s %8s %9s %8s\n", "load", "of", "ops/s", "p50 us", "p99 us",
        "p99.9 us", "max us", "CPU us", "client", "written B", "MiB"
    for (i = 1; i <= n_runs; i++) {
        split(runs[i], part, SUBSEP)
        if (!take(part[1], part[2], "ops_per_sec")) continue
        printf "%-12s %-5s", part[1], part[2]
        for (j = 1; j <= count; j++) printf " %" (j == 1 || j == 8 ? 9 : 8) "s", shown(median_of(part[1], part[2], names[j]))
        printf "\n"
    }
}

function other_figures(   i, part) {
    printf "\nOther figures (least/median/greatest)\n"
    for (i = 1; i <= n_keys; i++) {
        split(keys[i], part, SUBSEP)
        if (take(part[1], part[2], "ops_per_sec")) continue
        take(part[1], part[2], part[3])
        printf "%-12s %-5s %-20s %s/%s/%s\n", part[1], part[2], part[3], shown(least), shown(median), shown(greatest)
    }
}

function write_json(   i, j, part) {
    printf "{\n  \"commit\":\"%s\",\"date\":\"%s\",\"rounds\":%d,\"seconds\":%d,\"cores\":%d,\n  \"wanted\":[%s],\n  \"samples\":[",
        commit, date, rounds, seconds, cores, rows_json >json
    for (i = 1; i <= n_keys; i++) {
        split(keys[i], part, SUBSEP)
        printf "%s\n    {\"load\":\"%s\",\"system\":\"%s\",\"metric\":\"%s\",\"values\":[", (i > 1 ? "," : ""), part[1],
            part[2], part[3] >json
        for (j = 1; j <= n[keys[i]]; j++) printf "%s%s", (j > 1 ? "," : ""), value[keys[i], j] + 0 >json
        printf "]}" >json
    }
    printf "\n  ]\n}\n" >json
    close(json)
}

function plot_column(load, system_name, metric,   text) {
    text = median_of(load, system_name, metric)
    return text == "" ? "?" : text
}

# load, then ours and etcd's: operations per second, CPU us per operation, p99 us.
function write_plot(   i, part, line) {
    printf "load\tours ops\tetcd ops\tours cpu\tetcd cpu\tours p99\tetcd p99\n" >plot
    for (i = 1; i <= n_runs; i++) {
        split(runs[i], part, SUBSEP)
        if (part[2] != "ours" || !take(part[1], "ours", "ops_per_sec")) continue
        line = part[1]
        line = line "\t" plot_column(part[1], "ours", "ops_per_sec") "\t" plot_column(part[1], "etcd", "ops_per_sec")
        line = line "\t" plot_column(part[1], "ours", "cpu_us_per_op") "\t" plot_column(part[1], "etcd", "cpu_us_per_op")
        line = line "\t" plot_column(part[1], "ours", "p99_us") "\t" plot_column(part[1], "etcd", "p99_us")
        print line >plot
    }
    close(plot)
}

END {
    printf "\n%-10s %-32s %10s %10s %20s %8s  %s\n", "load", "figure", "ours", "etcd", "least/median/greatest", "wanted", ""
    while ((getline line <wanted) > 0) wanted_row(line)
    figures_table()
    other_figures()
    write_json()
    write_plot()
}
