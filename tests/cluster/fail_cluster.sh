# The cluster of the failure tests: the network, the disks, the processes, the clients. Sourced by
# scripts/failure-test.sh inside its namespaces, where $work is its folder. Names of nodes are ctrl-N and
# gG-N; node number i of the network has the address 10.77.0.i, the last one is the clients'.

n_ctrlers=3 n_replicas=3
declare -A number_of pid_of url_of gid_of disk_state
all_nodes=()

# ---- Shape

make_shape() {
    local g n i=0 spec
    spec_ctrl= ctrler_urls= group_specs=
    for ((n = 1; n <= n_ctrlers; n++)); do
        add_node "ctrl-$n" 0 $((++i))
        spec_ctrl="$spec_ctrl${spec_ctrl:+,}$n=${url_of[ctrl-$n]}"
        ctrler_urls="$ctrler_urls${ctrler_urls:+,}${url_of[ctrl-$n]}"
    done
    for ((g = 1; g <= n_groups; g++)); do
        spec=
        for ((n = 1; n <= n_replicas; n++)); do
            add_node "g$g-$n" "$g" $((++i))
            spec="$spec${spec:+,}$n=${url_of[g$g-$n]}"
        done
        printf -v "spec_g$g" '%s' "$spec"
        group_specs="$group_specs${group_specs:+;}$g $spec"
    done
    client_number=$((i + 1))
}
add_node() {
    all_nodes+=("$1")
    gid_of[$1]=$2
    number_of[$1]=$3
    url_of[$1]=tcp://10.77.0.$3:7000
    disk_state[$1]=good
}
nodes_of() {
    local name
    for name in "${all_nodes[@]}"; do
        if [ "${gid_of[$name]}" = "$1" ]; then echo "$name"; fi
    done
}
# node_of GID ID
node_of() {
    if [ "$1" = 0 ]; then echo "ctrl-$2"; else echo "g$1-$2"; fi
}

# ---- The network and the clients: programs that answer each line with one, through named pipes

start_net() {
    mkdir -p "$work/net"
    mkfifo "$work/net.in" "$work/net.out"
    "$build/tests/fail_net" "$work/net" "$client_number" "$seed" <"$work/net.in" >"$work/net.out" 2>>"$out/net.err" &
    net_pid=$!
    exec {to_net}>"$work/net.in" {from_net}<"$work/net.out"
    IFS= read -r reply <&"$from_net" || die "the network can't be made: $(tail -n 1 "$out/net.err")"
}
net() {
    printf '%s\n' "$*" >&"$to_net"
    IFS= read -r reply <&"$from_net" || die "the network ended: $(tail -n 3 "$out/net.err")"
    [[ $reply == ok* ]] || die "network: $*: $reply"
}
start_clients() {
    mkfifo "$work/load.in" "$work/load.out"
    nsenter --net="$work/net/net-$client_number" "$build/tests/fail_load" --cli "$bin/shardkv-cli" \
        --ctrlers "$ctrler_urls" --groups "$group_specs" --nodes "${#all_nodes[@]}" --seed "$seed" "$@" \
        <"$work/load.in" >"$work/load.out" 2>>"$out/load.err" {to_net}>&- {from_net}<&- &
    load_pid=$!
    exec {to_load}>"$work/load.in" {from_load}<"$work/load.out"
    IFS= read -r reply <&"$from_load" || die "the clients can't start: $(tail -n 3 "$out/load.err")"
}
# Asks the clients; false with the reason in $reply if they say "error".
try_ask() {
    printf '%s\n' "$*" >&"$to_load"
    IFS= read -r reply <&"$from_load" || die "the clients ended: $(tail -n 3 "$out/load.err")"
    case $reply in
    ok*) reply=${reply#ok} reply=${reply# } ;;
    *) reply=${reply#error } && return 1 ;;
    esac
}
ask() {
    try_ask "$@" || die "$1: $reply"
}
# The value of NAME=... in the last reply.
field() {
    [[ " $reply " =~ \ $1=([^ ]*)\  ]] && echo "${BASH_REMATCH[1]}"
}

# ---- Disks: an ext4 image for each node

make_disk() {
    local image=$work/$1.img
    truncate -s "${disk_mib}M" "$image"
    mkfs.ext4 -q -F -m 0 -J size=16 -E nodiscard "$image" || die "mkfs.ext4 failed"
    mkdir -p "$work/disk/$1"
    mount_disk "$1"
}
# noauto_da_alloc: ext4 shall not be kinder than it must to a rename without a sync.
mount_disk() {
    mount -t ext4 -o loop,noauto_da_alloc,nodiscard "$work/$1.img" "$work/disk/$1" || die "no loop device for $1"
    disk_state[$1]=good
}
remount_disk() {
    local i
    for ((i = 0; i < 200; i++)); do
        if umount "$work/disk/$1" 2>/dev/null; then
            mount_disk "$1"
            return
        fi
        sleep 0.02
    done
    die "the disk of $1 can't be unmounted"
}

# ---- Processes

# The environment of a node's process is in $node_env; nothing of ours stays open in it.
start_node() {
    local name=$1 g=${gid_of[$1]} id=${1##*-} spec
    if [ "$g" = 0 ]; then
        set -- "$bin/shardctrler" --id "$id" --cluster "$spec_ctrl" --shards "$n_shards"
    else
        spec=spec_g$g
        set -- "$bin/shardkv" --gid "$g" --id "$id" --cluster "${!spec}" --ctrlers "$ctrler_urls"
    fi
    : >"$out/$name.out"
    nsenter --net="$work/net/net-${number_of[$name]}" env "${node_env[@]}" FAIL_CLOCK="$work/$name.clock" \
        "$@" --data "$work/disk/$name/data" --log-level "$log_level" >>"$out/$name.out" 2>>"$out/$name.log" \
        </dev/null {to_net}>&- {from_net}<&- {to_load}>&- {from_load}<&- &
    pid_of[$name]=$!
    disown # else the shell tells of everyone that is killed
}
# A process whose first thread has ended may still have others, and its files open.
is_running() {
    local state tasks
    [ -n "${pid_of[$1]:-}" ] && read -r _ _ state _ 2>/dev/null <"/proc/${pid_of[$1]}/stat" || return 1
    [ "$state" != Z ] && return 0
    tasks=("/proc/${pid_of[$1]}/task/"*)
    [ ${#tasks[@]} -gt 1 ]
}
wait_ready() {
    local name i
    for name in "$@"; do
        for ((i = 0; i < 600; i++)); do
            if grep -q '^ready' "$out/$name.out"; then continue 2; fi
            is_running "$name" || die "$name did not start: $(tail -n 2 "$out/$name.log")"
            sleep 0.05
        done
        die "$name is not ready after 30 s"
    done
}
# Waits until a process that was killed has ended: later if its disk is frozen.
reap_node() {
    while is_running "$1"; do sleep 0.005; done
    pid_of[$1]=
}
# start_cluster CLIENT-OPTIONS...
start_cluster() {
    local name g spec
    make_shape
    start_net
    exec {to_load}>/dev/null {from_load}</dev/null # nothing yet, but to be closed in the nodes
    for name in "${all_nodes[@]}"; do
        make_disk "$name"
        "$tool" clock "$work/$name.clock" 0 1
        start_node "$name"
    done
    wait_ready "${all_nodes[@]}"
    for ((g = 1; g <= n_groups; g++)); do
        spec=spec_g$g
        nsenter --net="$work/net/net-$client_number" "$bin/shardkv-cli" --ctrlers "$ctrler_urls" --timeout 20000 \
            join "$g" "${!spec}" >/dev/null || die "group $g can't join"
    done
    exec {to_load}>&- {from_load}<&-
    start_clients "$@"
    ask await 60000
}
stop_cluster() {
    local name
    exec {to_load}>&- {from_load}<&-
    wait "$load_pid" 2>/dev/null || say "the clients ended badly: $(tail -n 3 "$out/load.err")" >&2
    for name in "${all_nodes[@]}"; do
        if [ -n "${pid_of[$name]:-}" ]; then kill -KILL "${pid_of[$name]}" 2>/dev/null || true; fi
    done
    for name in "${all_nodes[@]}"; do
        reap_node "$name"
        umount "$work/disk/$name" 2>/dev/null || true
        rm -f "$work/$name.img"
    done
    exec {to_net}>&- {from_net}<&-
    wait "$net_pid" 2>/dev/null || true
    rm -f "$work"/*.in "$work"/*.out
}
