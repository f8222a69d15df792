# Shared by the scripts: paths, building, picking free ports. Sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${SHARDKV_BUILD:-$root/build}
bin=$build/bin

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Installs what is missing and builds everything, quietly unless it fails.
build_all() {
    local output
    bash "$root/scripts/install_deps.sh"
    if ! output=$( (cmake -S "$root" -B "$build" -G Ninja "$@" && ninja -C "$build") 2>&1); then
        printf '%s\n' "$output" | tail -n 60 >&2
        die "the build failed"
    fi
}

# The first of $1 successive ports that nobody uses, below the kernel's own range.
free_port_range() {
    local count=$1 try base port used
    used=$(ss -Htan | awk '{ n = split($4, a, ":"); print a[n] }')
    for try in $(seq 200); do
        base=$((10000 + (RANDOM % 200) * 100))
        for ((port = base; port < base + count; port++)); do
            if grep -qx "$port" <<<"$used"; then
                continue 2
            fi
        done
        echo "$base"
        return 0
    done
    die "no free ports found"
}

# expect CODE COMMAND...: for tests, the command must end with that exit code; what it says is left in
# $work/out and $work/err.
expect() {
    local want=$1 code=0
    shift
    "$@" >"$work/out" 2>"$work/err" || code=$?
    if [ "$code" != "$want" ]; then
        cat "$work/out" "$work/err"
        die "expected exit code $want, got $code: $*"
    fi
}
