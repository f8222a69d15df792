#!/usr/bin/env bash
# Runs a whole cluster on this machine, every replica a process of its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'END'
usage: scripts/cluster.sh up [--groups 2] [--replicas 3] [--ctrlers 3] [--shards 256] [--no-join] [--tls]
       scripts/cluster.sh status | down | clean | env
       scripts/cluster.sh kill NODE | stop NODE | restart NODE | pause NODE | resume NODE | logs NODE
Options of every verb: --dir DIR (default ./.cluster), --base-port P (up; default: picked free).
NODE is ctrl-1 (controller, replica 1) or g1-2 (group 1, replica 2).
--tls: all links by TLS with certificates made for the occasion, and a peer key (scripts/gen-certs.sh).
up starts what does not run and joins groups that have not joined; it is safe to call twice. A cluster
keeps the shape it was made with until `clean`, which stops it and deletes its data.
END
}

dir=$PWD/.cluster
groups=2 replicas=3 ctrlers=3 shards=256 base_port= join=1 tls=0
verb=${1:-}
[ -n "$verb" ] || { usage >&2; exit 2; }
shift
node=
while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=$2; shift 2 ;;
    --groups) groups=$2; shift 2 ;;
    --replicas) replicas=$2; shift 2 ;;
    --ctrlers) ctrlers=$2; shift 2 ;;
    --shards) shards=$2; shift 2 ;;
    --base-port) base_port=$2; shift 2 ;;
    --no-join) join=0; shift ;;
    --tls) tls=1; shift ;;
    --help) usage; exit 0 ;;
    -*) say "cluster.sh: no such option: $1" >&2; usage >&2; exit 2 ;;
    *) [ -z "$node" ] || { usage >&2; exit 2; }; node=$1; shift ;;
    esac
done
mkdir -p "$(dirname "$dir")"
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

# ---- Shape: DIR/cluster.env says which nodes there are and where they listen.

make_shape() {
    local count=$((ctrlers + groups * replicas)) port g n spec host=tcp://127.0.0.1
    [ "$groups" -ge 0 ] && [ "$replicas" -ge 1 ] && [ "$replicas" -le 9 ] && [ "$ctrlers" -ge 1 ] &&
        [ "$ctrlers" -le 9 ] || die "1 to 9 replicas and controllers, please"
    port=${base_port:-$(free_port_range "$count")}
    mkdir -p "$dir"
    if [ "$tls" = 1 ]; then
        "$root/scripts/gen-certs.sh" "$dir/certs" server=localhost --client client >/dev/null
        host=tls+tcp://localhost
    fi
    {
        echo "shape_tls=$tls"
        echo "shape_groups=$groups"
        echo "shape_replicas=$replicas"
        echo "shape_ctrlers=$ctrlers"
        echo "shape_shards=$shards"
        spec= urls=
        for ((n = 1; n <= ctrlers; n++)); do
            spec="$spec${spec:+,}$n=$host:$port"
            urls="$urls${urls:+,}$host:$port"
            port=$((port + 1))
        done
        echo "spec_ctrl='$spec'"
        echo "ctrler_urls='$urls'"
        for ((g = 1; g <= groups; g++)); do
            spec=
            for ((n = 1; n <= replicas; n++)); do
                spec="$spec${spec:+,}$n=$host:$port"
                port=$((port + 1))
            done
            echo "spec_g$g='$spec'"
        done
    } >"$dir/cluster.env.new"
    mv "$dir/cluster.env.new" "$dir/cluster.env"
}

load_shape() {
    [ -f "$dir/cluster.env" ] || die "no cluster in $dir: start one with 'scripts/cluster.sh up'"
    # shellcheck disable=SC1091
    source "$dir/cluster.env"
    export SHARDKV_CTRLERS=$ctrler_urls
    server_flags=()
    if [ "${shape_tls:-0}" = 1 ]; then
        export SHARDKV_TLS_CA=$dir/certs/ca.pem SHARDKV_TLS_CERT=$dir/certs/client.pem SHARDKV_TLS_KEY=$dir/certs/client.key
        server_flags=(--tls-ca "$dir/certs/ca.pem" --tls-cert "$dir/certs/server.pem" --tls-key "$dir/certs/server.key" --peer-key "$dir/certs/peer.key")
    fi
}

# How a client reaches the cluster, as lines for a shell.
client_environment() {
    say "export SHARDKV_CTRLERS=$ctrler_urls"
    [ "${shape_tls:-0}" = 0 ] || say "export SHARDKV_TLS_CA=$SHARDKV_TLS_CA SHARDKV_TLS_CERT=$SHARDKV_TLS_CERT SHARDKV_TLS_KEY=$SHARDKV_TLS_KEY"
}

nodes() {
    local g n
    for ((n = 1; n <= shape_ctrlers; n++)); do echo "ctrl-$n"; done
    for ((g = 1; g <= shape_groups; g++)); do
        for ((n = 1; n <= shape_replicas; n++)); do echo "g$g-$n"; done
    done
}

check_node() {
    grep -qx -- "$1" <<<"$(nodes)" || die "no such node: $1 (there are: $(nodes | tr '\n' ' '))"
}

# ---- Processes

# Whether the pid in the node's file is still that node's process.
is_running() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
        grep -qF -- "--data $dir/$1 " <<<"$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
}

start_node() {
    local name=$1 g n spec
    is_running "$name" && return 0
    n=${name##*-}
    if [[ $name == ctrl-* ]]; then
        set -- "$bin/shardctrler" --id "$n" --cluster "$spec_ctrl" --data "$dir/$name" --shards "$shape_shards"
    else
        g=${name%-*}
        g=${g#g}
        spec="spec_g$g"
        set -- "$bin/shardkv" --gid "$g" --id "$n" --cluster "${!spec}" --ctrlers "$ctrler_urls" --data "$dir/$name" --log-level info
    fi
    env -u SHARDKV_CTRLERS -u SHARDKV_TLS_CA -u SHARDKV_TLS_CERT -u SHARDKV_TLS_KEY nohup "$@" "${server_flags[@]}" >"$dir/$name.out" 2>>"$dir/$name.log" </dev/null &
    echo $! >"$dir/$name.pid"
    disown
}

wait_ready() {
    local name=$1 i
    for ((i = 0; i < 600; i++)); do
        grep -q '^ready' "$dir/$name.out" 2>/dev/null && return 0
        # Not is_running: on a busy machine the process may still be on its way to being the server.
        kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || die "$name did not start: $(tail -n 1 "$dir/$name.log")"
        sleep 0.05
    done
    die "$name is not ready after 30 s, see $dir/$name.log"
}

# Not before its last thread has ended are its files closed, and its data directory free again.
has_ended() { # PID
    [ -d "/proc/$1" ] || return 0
    grep -qs '^State:.Z' "/proc/$1/status" && [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ]
}

await_end() { # PID: at most 5 s
    local i
    for ((i = 0; i < 100; i++)); do
        ! has_ended "$1" || return 0
        sleep 0.05
    done
    return 1
}

# Ends a node by the signal and waits until its process is gone.
end_node() {
    local name=$1 signal=$2 pid
    is_running "$name" || { rm -f "$dir/$name.pid"; return 0; }
    pid=$(cat "$dir/$name.pid")
    kill "-$signal" "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    if ! await_end "$pid"; then
        kill -KILL "$pid" 2>/dev/null || true
        await_end "$pid" || true
    fi
    rm -f "$dir/$name.pid"
}

join_groups() {
    local g spec config
    config=$("$bin/shardkv-cli" --timeout 20000 --json config)
    for ((g = 1; g <= shape_groups; g++)); do
        grep -q "\"$g\":" <<<"${config#*groups}" && continue
        spec="spec_g$g"
        "$bin/shardkv-cli" --timeout 20000 join "$g" "${!spec}" >/dev/null
    done
    "$bin/shardkv-cli" wait --shards --timeout 60000 >/dev/null
}

case $verb in
up)
    [ -x "$bin/shardkv" ] || build_all
    [ -f "$dir/cluster.env" ] || make_shape
    load_shape
    for name in $(nodes); do start_node "$name"; done
    for name in $(nodes); do wait_ready "$name"; done
    if [ "$join" = 1 ] && [ "$shape_groups" -gt 0 ]; then
        join_groups
    else
        "$bin/shardkv-cli" wait --timeout 60000 >/dev/null
    fi
    say "cluster in $dir: $shape_ctrlers controllers, $shape_groups groups of $shape_replicas"
    say "reach it with:"
    client_environment | sed 's/^/  /'
    say "  $bin/shardkv-cli put greeting hello && $bin/shardkv-cli get greeting"
    ;;
env)
    load_shape
    client_environment
    ;;
status)
    load_shape
    for name in $(nodes); do
        if is_running "$name"; then say "$name up pid $(cat "$dir/$name.pid")"; else say "$name down"; fi
    done
    "$bin/shardkv-cli" --timeout 3000 status || true
    ;;
down)
    [ -f "$dir/cluster.env" ] || exit 0
    load_shape
    # All at once: a graceful stop of one after the other would elect a leader each time.
    for name in $(nodes); do
        if is_running "$name"; then
            kill -TERM "$(cat "$dir/$name.pid")" 2>/dev/null || true
            kill -CONT "$(cat "$dir/$name.pid")" 2>/dev/null || true
        fi
    done
    for name in $(nodes); do end_node "$name" TERM; done
    say "stopped"
    ;;
clean)
    [ -f "$dir/cluster.env" ] || exit 0
    "$0" down --dir "$dir" >/dev/null
    load_shape
    for name in $(nodes); do rm -rf "${dir:?}/$name" "$dir/$name.log" "$dir/$name.out" "$dir/$name.pid"; done
    rm -f "$dir/cluster.env"
    [ "${shape_tls:-0}" = 0 ] || rm -rf "${dir:?}/certs"
    rmdir "$dir" 2>/dev/null || true
    say "cleaned"
    ;;
kill | stop | restart | pause | resume | logs)
    [ -n "$node" ] || { usage >&2; exit 2; }
    load_shape
    check_node "$node"
    case $verb in
    kill) end_node "$node" KILL ;;
    stop) end_node "$node" TERM ;;
    restart) end_node "$node" TERM; start_node "$node"; wait_ready "$node" ;;
    pause) is_running "$node" && kill -STOP "$(cat "$dir/$node.pid")" ;;
    resume) is_running "$node" && kill -CONT "$(cat "$dir/$node.pid")" ;;
    logs) tail -n 100 "$dir/$node.log" ;;
    esac
    ;;
--help | help) usage ;;
*)
    say "cluster.sh: no such verb: $verb" >&2
    usage >&2
    exit 2
    ;;
esac
