# Clusters of ours: three controllers and N groups of three, by scripts/cluster.sh. Sourced by scripts/bench.sh.
# A cluster is known by its name: its folder is $work/NAME.

kv_probe=$build/tests/kv_probe

ours_cluster() {
    local verb=$1 name=$2
    shift 2
    SHARDKV_BUILD=$build "$root/scripts/cluster.sh" "$verb" --dir "$work/$name" "$@" >/dev/null
}

ours_up() {
    ours_cluster up "$1" --groups "$2"
}

ours_down() {
    [ ! -f "$work/$1/cluster.env" ] || ours_cluster clean "$1" || true
}

ours_pids() {
    cat "$work/$1"/*.pid
}

ours_ctrlers() {
    sed -n "s/^ctrler_urls='\(.*\)'/\1/p" "$work/$1/cluster.env"
}

# The replicas of a group as kv_probe wants them: URL=PID,...
ours_replicas() {
    local one spec
    spec=$(sed -n "s/^spec_g$2='\(.*\)'/\1/p" "$work/$1/cluster.env")
    for one in ${spec//,/ }; do
        echo "${one#*=}=$(cat "$work/$1/g$2-${one%%=*}.pid")"
    done | paste -sd,
}

# After its process was killed: starts the node again and waits until it has caught up.
ours_restart() {
    await_gone "$(cat "$work/$1/$2.pid")"
    ours_cluster restart "$1" "$2"
    ours_run "$1" --clients 1 --ops 1 >/dev/null
    sleep 1
}

# Ends all processes of a cluster, and notes how each was started.
declare -A ours_commands
ours_kill_all() {
    local file pids
    for file in "$work/$1"/*.pid; do
        ours_commands[$file]=$(tr '\0' ' ' <"/proc/$(cat "$file")/cmdline")
    done
    pids=$(ours_pids "$1")
    kill -KILL $pids
    await_gone $pids
}

# Starts them all again, one right after the other, and waits for nothing: not by cluster.sh, whose own work would
# be counted.
ours_start_all() {
    local file node
    for file in "$work/$1"/*.pid; do
        node=${file%.pid}
        ${ours_commands[$file]} >"$node.out" 2>>"$node.log" </dev/null &
        echo $! >"$file"
        disown
    done
}

# ours_run NAME OPTIONS: a run of the benchmark; prints its JSON.
ours_run() {
    local name=$1
    shift
    timeout "$run_timeout" "$bin/shardkv-cli" --ctrlers "$(ours_ctrlers "$name")" --json bench "$@" </dev/null ||
        die "shardkv-cli bench $* failed"
}
