# Three members of etcd with its defaults, on loopback and free ports, with data in $work/etcd: nothing of an
# etcd that the machine may run is touched. Sourced by scripts/bench.sh.

etcd_pids=() etcd_ports=() etcd_endpoints= etcd_leader=
etcd_program=
etcd_load=$build/tests/etcd_load

# Debian's package brings a service that starts at once; its program alone does that not.
etcd_install() {
    local work_dir
    [ "$(id -u)" -eq 0 ] || die "--install: not root; please install etcd-server and libnghttp2-dev"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    apt-get install -y -q --no-install-recommends libnghttp2-dev gnuplot-nox >/dev/null
    work_dir=$(mktemp -d)
    (cd "$work_dir" && apt-get download -q etcd-server >/dev/null 2>&1)
    mkdir -p "$out/etcd"
    dpkg-deb --fsys-tarfile "$work_dir"/etcd-server_*.deb | tar -x -C "$out/etcd" ./usr/bin/etcd
    rm -rf "$work_dir"
    cmake -S "$root" -B "$build" >/dev/null
    cmake --build "$build" --target etcd_load >/dev/null
}

# Whether there is an etcd to compare with, and what drives it.
etcd_find() {
    etcd_program=$(command -v etcd || true)
    [ -n "$etcd_program" ] || etcd_program=$out/etcd/usr/bin/etcd
    [ -x "$etcd_program" ] && [ -x "$etcd_load" ]
}

etcd_start_member() {
    local i=$1 state=$2 url=http://127.0.0.1 n cluster=
    for n in 0 1 2; do cluster=$cluster${cluster:+,}n$n=$url:$((etcd_ports[0] + 3 + n)); done
    env -u ETCD_NAME "$etcd_program" --name "n$i" --data-dir "$work/etcd/n$i" --log-level error \
        --listen-client-urls "$url:${etcd_ports[i]}" --advertise-client-urls "$url:${etcd_ports[i]}" \
        --listen-peer-urls "$url:$((etcd_ports[0] + 3 + i))" \
        --initial-advertise-peer-urls "$url:$((etcd_ports[0] + 3 + i))" --initial-cluster "$cluster" \
        --initial-cluster-state "$state" --initial-cluster-token "bench-$$" \
        >>"$work/etcd/n$i.log" 2>&1 </dev/null &
    etcd_pids[i]=$!
    disown
}

etcd_is_leader() {
    local line
    {
        exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    } 2>/dev/null
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    while IFS= read -r -t 5 line <&3; do
        [[ $line != "etcd_server_is_leader 1"* ]] || { exec 3>&-; return 0; }
    done
    exec 3>&-
    return 1
}

# The index of the member that leads; sets etcd_leader.
etcd_find_leader() {
    local try i
    for ((try = 0; try < 100; try++)); do
        for i in 0 1 2; do
            if etcd_is_leader "${etcd_ports[i]}"; then
                etcd_leader=$i
                return 0
            fi
        done
        sleep 0.1
    done
    die "etcd has no leader after 10 s, see $work/etcd"
}

etcd_probe() {
    "$etcd_load" --endpoints "$etcd_endpoints" --probe --keys 1 "$@" | json_number ms
}

etcd_up() {
    local base i
    base=$(free_port_range 6)
    etcd_ports=("$base" $((base + 1)) $((base + 2)))
    etcd_endpoints=127.0.0.1:$base,127.0.0.1:$((base + 1)),127.0.0.1:$((base + 2))
    mkdir -p "$work/etcd"
    for i in 0 1 2; do etcd_start_member "$i" new; done
    etcd_probe --seconds 30 >/dev/null
    etcd_find_leader
}

etcd_kill_all() {
    kill -KILL "${etcd_pids[@]}" 2>/dev/null || true
    await_gone "${etcd_pids[@]}"
}

etcd_restart_all() {
    local i
    etcd_kill_all
    for i in 0 1 2; do etcd_start_member "$i" existing; done
}

# etcd_run OPTIONS: a run of the generator against the leader; prints its JSON.
etcd_run() {
    timeout "$run_timeout" "$etcd_load" --endpoints "127.0.0.1:${etcd_ports[etcd_leader]}" "$@" ||
        die "etcd_load $* failed"
}

etcd_fill() {
    etcd_run --clients 256 --connections 16 --seconds 1000 --keys "$1" --ops "$1" --in-order >/dev/null
}
