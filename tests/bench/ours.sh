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

# The id of the replica that leads a group.
ours_leader() {
    local try id
    for ((try = 0; try < 100; try++)); do
        id=$("$bin/shardkv-cli" --ctrlers "$(ours_ctrlers "$1")" --json status 2>/dev/null |
            tr '{' '\n' | grep '"role": *"leader"' | grep -E "\"gid\": *$2," | json_number id | head -n 1) || true
        [ -z "$id" ] || { echo "$id"; return 0; }
        sleep 0.1
    done
    die "group $2 has no leader after 10 s"
}

# After its process was killed: starts the node again and waits until it has caught up.
ours_restart() {
    await_gone "$(cat "$work/$1/$2.pid")"
    ours_cluster restart "$1" "$2"
    ours_run "$1" --clients 1 --ops 1 >/dev/null
    sleep 1
}

ours_kill_all() {
    local pids
    pids=$(ours_pids "$1")
    # shellcheck disable=SC2086
    kill -KILL $pids
    # shellcheck disable=SC2086
    await_gone $pids
}

# Begins to start all of it, in the background: nothing is waited for but what the caller waits for.
ours_start_all() {
    ours_cluster up "$1" --no-join &
    starting=$!
}

# ours_run NAME OPTIONS: a run of the benchmark; prints its JSON.
ours_run() {
    local name=$1
    shift
    timeout "$run_timeout" "$bin/shardkv-cli" --ctrlers "$(ours_ctrlers "$name")" --json bench "$@" </dev/null ||
        die "shardkv-cli bench $* failed"
}
