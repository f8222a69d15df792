#!/usr/bin/env bash
# Measures a cluster of ours beside one of etcd; usage(), below, says all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
out=$build/bench
source "$root/tests/bench/measure.sh"
source "$root/tests/bench/etcd.sh"
source "$root/tests/bench/ours.sh"
rounds=5 seconds=5 n_keys=100000 run_timeout=120
work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-bench.XXXXXX")
samples=$work/samples.tsv
await_gone() {
    local pid i
    for pid in "$@"; do
        for ((i = 0; i < 1000; i++)); do [ -d "/proc/$pid" ] || break; sleep 0.01; done
    done
}
cleanup() {
    ours_down one
    [ ${#etcd_pids[@]} -eq 0 ] || etcd_kill_all
    rm -rf "$work"
}
trap cleanup EXIT
etcd_find || die "no etcd"
ours_up one 1
etcd_up
say "idle: ours $(idle_cores 3 $(ours_pids one)) etcd $(idle_cores 3 "${etcd_pids[@]}")"
rounds=2 seconds=3
for r in 1 2; do
before=$(usage_of $(ours_pids one))
json=$(ours_run one --clients 64 --connections 64 --seconds $seconds)
sample_run put_64x64 ours $r "$before" "$(usage_of $(ours_pids one))" "$json"
before=$(usage_of "${etcd_pids[@]}")
json=$(etcd_run --clients 64 --connections 64 --seconds $seconds)
sample_run put_64x64 etcd $r "$before" "$(usage_of "${etcd_pids[@]}")" "$json"
done
cat $samples
