# The loads, and what is wanted of each. A load is a function load_NAME that takes its samples for one round,
# or, where it says so in own_rounds, for all of them. Sourced by scripts/bench.sh.

# name|operation|clients|connections: both systems, in turns
side_by_side=(
    "put-64x64|put|64|64"
    "put-64x1|put|64|1"
    "put-256x4|put|256|4"
    "put-1|put|1|1"
    "get-64x64|get|64|64"
    "get-64x1|get|64|1"
)
# The order in which they are run: etcd's reads are measured after a restart, what needs a million keys last.
load_names="put-64x64 put-64x1 put-256x4 put-1 limit transport half-load crowd groups failover get-64x64 get-64x1 restart stalls"

# load|figure|metric|how|relation|bound. How: ratio is ours to etcd's, of each round; median and worst are
# of ours alone.
wanted_rows=(
    "put-64x64|throughput|ops_per_sec|ratio|>=|4"
    "put-64x64|server CPU|cpu_us_per_op|ratio|<=|0.25"
    "put-64x1|throughput|ops_per_sec|ratio|>=|6"
    "put-64x1|server CPU|cpu_us_per_op|ratio|<=|0.1667"
    "put-256x4|throughput|ops_per_sec|ratio|>=|6"
    "put-256x4|server CPU|cpu_us_per_op|ratio|<=|0.2"
    "get-64x64|throughput|ops_per_sec|ratio|>=|6"
    "get-64x64|server CPU|cpu_us_per_op|ratio|<=|0.125"
    "get-64x1|throughput|ops_per_sec|ratio|>=|12"
    "get-64x1|server CPU|cpu_us_per_op|ratio|<=|0.0833"
    "put-1|p50 latency|p50_us|ratio|<=|0.6"
    "put-1|server CPU|cpu_us_per_op|ratio|<=|0.3333"
    "failover|leader killed to next put|ms|ratio|<=|0.35"
    "restart|all killed to next put|ms|ratio|<=|0.15"
    "limit|put p50 to sync + 2 round trips|to_limit|median|<=|1.5"
    "groups|2 groups to 1, throughput|to_one_group|median|>=|0.9"
    "half-load|p99 to p50|p99_to_p50|median|<=|5"
    "stalls|longest put beside 16 MiB, ms|stall_ms|worst|<=|200"
    "crowd|1000 clients to the best|to_best_1000|median|>=|0.8"
    "crowd|5000 clients to the best|to_best_5000|median|>=|0.8"
)

quotient() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4f\n", (b > 0 ? a / b : 0) }'
}

# Waits until the servers are done with what the last load left them (at most 5 s).
settle() {
    local i before after pids pid
    pids="$(ours_pids one) ${etcd_pids[*]}"
    for pid in $pids; do
        [ -d "/proc/$pid" ] || die "a server has ended, see its traces in $work (--keep)"
    done
    for ((i = 0; i < 10; i++)); do
        before=$(usage_of $pids)
        sleep 0.5
        after=$(usage_of $pids)
        [ $((${after%% *} - ${before%% *})) -gt 10 ] || return 0
    done
}

# measure_ours NAME LOAD ROUND OPTIONS; the JSON is left in $json.
measure_ours() {
    local cluster=$1 load=$2 round=$3 before
    shift 3
    settle
    [ "$quick" = 1 ] || ours_run "$cluster" "$@" --seconds 1 >/dev/null
    before=$(usage_of $(ours_pids "$cluster"))
    json=$(ours_run "$cluster" "$@" --seconds "$seconds")
    sample_run "$load" ours "$round" "$before" "$(usage_of $(ours_pids "$cluster"))" "$json"
}

measure_etcd() {
    local load=$1 round=$2 before
    shift 2
    settle
    [ "$quick" = 1 ] || etcd_run "$@" --seconds 1 >/dev/null
    before=$(usage_of "${etcd_pids[@]}")
    json=$(etcd_run "$@" --seconds "$seconds")
    sample_run "$load" etcd "$round" "$before" "$(usage_of "${etcd_pids[@]}")" "$json"
}

# in_turns ROUND OURS ETCD: runs both, the one that was second in the last round first.
in_turns() {
    if [ $(($1 % 2)) = 1 ]; then
        $2
        [ "$ours_only" = 1 ] || $3
    else
        [ "$ours_only" = 1 ] || $3
        $2
    fi
}

# ---- Both systems

run_side_by_side() {
    local load=$1 round=$2 line op clients connections options
    for line in "${side_by_side[@]}"; do
        IFS='|' read -r name op clients connections <<<"$line"
        [ "$name" = "$load" ] || continue
        options="--op $op --clients $clients --connections $connections --keys $n_keys"
        in_turns "$round" "measure_ours one $load $round $options" "measure_etcd $load $round $options"
        return
    done
    die "no such load: $load"
}

failover_ours() {
    local told trial=$1
    told=$("$kv_probe" --ctrlers "$(ours_ctrlers one)" --kill-leader "$(ours_replicas one 1)")
    sample failover ours "$trial" ms "$(json_number ms <<<"$told")"
    ours_restart one "g1-$(json_number victim <<<"$told")"
}

failover_etcd() {
    local others trial=$1
    etcd_find_leader
    others=$(sed "s/127.0.0.1:${etcd_ports[etcd_leader]}//; s/,,/,/; s/^,//; s/,$//" <<<"$etcd_endpoints")
    sample failover etcd "$trial" ms "$("$etcd_load" --endpoints "$others" --probe --keys 1 --seconds 30 \
        --kill "${etcd_pids[etcd_leader]}" | json_number ms)"
    await_gone "${etcd_pids[etcd_leader]}"
    etcd_start_member "$etcd_leader" existing
    "$etcd_load" --endpoints "127.0.0.1:${etcd_ports[etcd_leader]}" --probe --keys 1 --seconds 60 >/dev/null
    sleep 1
    etcd_find_leader
}

load_failover() {
    local trial
    for ((trial = 1; trial <= trials; trial++)); do
        in_turns "$trial" "failover_ours $trial" "failover_etcd $trial"
    done
}

# Bytes of resident memory and of disk, once the million keys are there.
sample_full() {
    local system=$1 folder=$2 usage
    shift 2
    usage=$(usage_of "$@")
    sample restart "$system" 1 resident_mib $((${usage##* } / 1024))
    sample restart "$system" 1 disk_mib "$(du -sm "$folder" | cut -f1)"
}

restart_ours() {
    ours_kill_all one
    ours_start_all one
    sample restart ours "$1" ms "$("$kv_probe" --ctrlers "$(ours_ctrlers one)" --seconds 120 | json_number ms)"
    "$bin/shardkv-cli" --ctrlers "$(ours_ctrlers one)" wait --timeout 60000 >/dev/null
}

restart_etcd() {
    etcd_restart_all
    sample restart etcd "$1" ms "$(etcd_probe --seconds 120)"
    etcd_find_leader
}

load_restart() {
    local trial
    fill_million
    sample_full ours "$work/one" $(ours_pids one)
    [ "$ours_only" = 1 ] || sample_full etcd "$work/etcd" "${etcd_pids[@]}"
    for ((trial = 1; trial <= rounds; trial++)); do
        in_turns "$trial" "restart_ours $trial" "restart_etcd $trial"
    done
}

# Both get so many keys, once.
million_is_there=0
fill_million() {
    [ "$million_is_there" = 0 ] || return 0
    million_is_there=1
    run_timeout=1000
    ours_run one --fill --keys "$million" --clients 256 --connections 16 --ops 1 >/dev/null
    [ "$ours_only" = 1 ] || etcd_fill "$million"
    settle
}

# ---- Ours alone

# What one put can't be faster than on this machine, or steadier, now.
limits_of_put() {
    "$build/tests/limits" put "$work" "$((seconds < 2 ? 1 : 2))"
}

load_limit() {
    local round=$1 limits name
    limits=$(limits_of_put)
    for name in sync_us round_trip_us limit_us hand_over_us; do
        sample limit ours "$round" "$name" "$(json_number $name <<<"$limits")"
    done
    measure_ours one limit "$round" --clients 1 --connections 1 --keys "$n_keys"
    sample limit ours "$round" to_limit \
        "$(quotient "$(json_number p50_us <<<"$json")" "$(json_number limit_us <<<"$limits")")"
}

# What the transport alone takes of both sides for a request on each of 64 connections.
load_transport() {
    local round=$1 figures name
    settle
    figures=$("$build/tests/transport" 64 "$((seconds < 2 ? 1 : 2))")
    for name in answers_per_sec server_cpu_us client_cpu_us; do
        sample transport ours "$round" "$name" "$(json_number "$name" <<<"$figures")"
    done
}

load_half-load() {
    local round=$1 best limits name
    settle
    limits=$(limits_of_put) # how steady the machine itself is
    for name in sync round_trip; do
        sample half-load ours "$round" "${name}_p99_to_p50" \
            "$(quotient "$(json_number ${name}_p99_us <<<"$limits")" "$(json_number ${name}_us <<<"$limits")")"
    done
    best=$(ours_run one --clients 64 --connections 64 --keys "$n_keys" --seconds "$seconds" | json_number ops_per_sec)
    measure_ours one half-load "$round" --clients 64 --connections 64 --keys "$n_keys" \
        --rate "$(awk -v a="$best" 'BEGIN { print a / 2 }')"
    sample half-load ours "$round" p99_to_p50 \
        "$(quotient "$(json_number p99_us <<<"$json")" "$(json_number p50_us <<<"$json")")"
}

load_crowd() {
    local round=$1 clients best=0 figure
    local -A figures
    for clients in 64 256 1000 5000; do
        measure_ours one "crowd-$clients" "$round" --clients "$clients" --connections 64 --keys "$n_keys"
        figure=$(json_number ops_per_sec <<<"$json")
        figures[$clients]=$figure
        best=$(awk -v a="$best" -v b="$figure" 'BEGIN { print (a > b ? a : b) }')
    done
    sample crowd ours "$round" to_best_1000 "$(quotient "${figures[1000]}" "$best")"
    sample crowd ours "$round" to_best_5000 "$(quotient "${figures[5000]}" "$best")"
}

# All rounds: a second cluster, with two groups, lives for that long.
load_groups() {
    local round one two
    ours_up two 2
    ours_run two --fill --keys "$n_keys" --clients 64 --connections 4 --ops 1 >/dev/null
    for ((round = 1; round <= rounds; round++)); do
        measure_ours one groups-1 "$round" --clients 64 --connections 64 --keys "$n_keys"
        one=$(json_number ops_per_sec <<<"$json")
        measure_ours two groups-2 "$round" --clients 64 --connections 64 --keys "$n_keys"
        two=$(json_number ops_per_sec <<<"$json")
        sample groups ours "$round" to_one_group "$(quotient "$two" "$one")"
    done
    ours_down two
}

# One client puts values of 16 MiB, one after the other, while others put small ones at a steady rate:
# how long does any of these take, from the moment at which it was due?
load_stalls() {
    local round=$1 large limits name before after
    fill_million
    settle
    limits=$("$build/tests/limits" large "$work") # what the disk alone takes
    for name in large_us large_longest_us; do
        sample stalls ours "$round" "disk_$name" "$(json_number $name <<<"$limits")"
    done
    before=$(usage_of $(ours_pids one))
    ours_run one --clients 1 --connections 1 --keys 8 --value-bytes 16777216 --seconds "$seconds" >"$work/large.json" &
    large=$!
    json=$(ours_run one --clients 256 --connections 4 --keys "$million" --rate 1000 --seconds "$seconds")
    wait "$large"
    after=$(usage_of $(ours_pids one))
    # Of the servers, that of the small puts included; nothing is shorter than this divided by the cores.
    sample stalls ours "$round" large_server_cpu_ms "$(awk -v before="$before" -v after="$after" -v tck="$clk_tck" \
        -v ops="$(json_number ops <"$work/large.json")" \
        'BEGIN { split(before, b, " "); split(after, a, " "); print (a[1] - b[1]) * 1000 / tck / ops }')"
    sample stalls ours "$round" stall_ms "$(quotient "$(json_number max_us <<<"$json")" 1000)"
    sample stalls ours "$round" p50_us "$(json_number p50_us <<<"$json")"
    sample stalls ours "$round" p99_us "$(json_number p99_us <<<"$json")"
    for name in p50_us max_us; do
        sample stalls ours "$round" "large_$name" "$(json_number $name <"$work/large.json")"
    done
    sample stalls ours "$round" large_mib_per_sec \
        "$(awk -v a="$(json_number ops_per_sec <"$work/large.json")" 'BEGIN { print a * 16 }')"
}

# Those that go through all rounds, or trials, by themselves.
own_rounds="groups failover restart"
