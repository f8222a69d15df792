# Clusters of ours: three controllers and N groups of three, by scripts/cluster.sh. Sourced by scripts/bench.sh.
# A cluster is known by its name: its folder is $work/NAME.

ours_up() {
    local name=$1 groups=$2
    SHARDKV_BUILD=$build "$root/scripts/cluster.sh" up --dir "$work/$name" --groups "$groups" >/dev/null
}

ours_down() {
    [ ! -f "$work/$1/cluster.env" ] || "$root/scripts/cluster.sh" clean --dir "$work/$1" >/dev/null || true
}

# The processes of a cluster: all, or with "groups" those of its groups only.
ours_pids() {
    local file
    for file in "$work/$1"/*.pid; do
        if [ "${2:-all}" = all ] || [[ $file == */g* ]]; then cat "$file"; fi
    done
}

ours_ctrlers() {
    sed -n "s/^ctrler_urls='\(.*\)'/\1/p" "$work/$1/cluster.env"
}

ours_cli() {
    local name=$1
    shift
    "$bin/shardkv-cli" --ctrlers "$(ours_ctrlers "$name")" "$@"
}

# ours_run NAME OPTIONS: a run of the benchmark; prints its JSON.
ours_run() {
    local name=$1
    shift
    timeout "$run_timeout" "$bin/shardkv-cli" --ctrlers "$(ours_ctrlers "$name")" --json bench "$@" </dev/null ||
        die "shardkv-cli bench $* failed"
}
