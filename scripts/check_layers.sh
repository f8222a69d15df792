#!/usr/bin/env bash
# Checks that every layer includes only what lies below it, and that the pure libraries call nothing
# of the world: their undefined symbols must be on a short allow-list, or defined by a pure library.
# Usage: scripts/check_layers.sh [BUILD_DIR]   (without a build, only the includes are checked)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-}
failures=0

fail() {
    echo "check_layers: $*" >&2
    failures=$((failures + 1))
}

# Which project headers the files of a layer may include, as an extended regular expression on the
# path in #include "...".
allowed_includes() {
    case $1 in
    raft/util/*) echo '^raft/util/' ;;
    raft/core/* | raft/raft.h) echo '^raft/(util|core)/|^raft/raft\.h$' ;;
    raft/wire/* | raft/wire.h) echo '^raft/(util|wire)/|^raft/(raft|wire)\.h$' ;;
    raft/io.h) echo '^raft/util/|^raft/raft\.h$' ;;
    raft/rsm/* | raft/rsm.h) echo '^raft/(util|rsm)/|^raft/(raft|wire|io|rsm)\.h$' ;;
    raft/store/* | raft/store.h) echo '^raft/(util|store)/|^raft/(raft|wire|io|store)\.h$' ;;
    raft/net/* | raft/net.h) echo '^raft/(util|net)/|^raft/(raft|io|net)\.h$' ;;
    raft/host/* | raft/host.h) echo '^raft/(util|host)/|^raft/(raft|io|rsm|net|store|host)\.h$' ;;
    client/proto*.[ch] | client/shard_config.[ch] | client/caller*.[ch] | client/clerk*.[ch] | \
        client/ctrler_clerk*.[ch])
        echo '^raft/util/|^client/(proto|shard_config|caller|clerk|ctrler_clerk)[a-z_]*\.h$'
        ;;
    client/serve*.[ch]) echo '^raft/util/|^raft/(raft|io|rsm)\.h$|^client/' ;;
    client/*) echo '^raft/util/|^raft/(raft|io|net)\.h$|^client/' ;;
    shardctrler/main.c) echo '^raft/|^client/|^shardctrler/' ;;
    shardkv/main.c) echo '^raft/|^client/|^shardkv/' ;;
    shardctrler/*) echo '^raft/util/|^raft/(raft|io|rsm)\.h$|^client/|^shardctrler/' ;;
    shardkv/*) echo '^raft/util/|^raft/(raft|io|rsm)\.h$|^client/|^shardkv/' ;;
    *) echo '' ;;
    esac
}

# System headers that only the outer layers may use.
forbidden_in_pure='<(nng/|mbedtls/|leveldb/|pthread\.h|threads\.h|time\.h|sys/time\.h|unistd\.h|fcntl\.h|sys/(socket|stat|file|mman)\.h|poll\.h|signal\.h|stdatomic\.h)'

is_pure() {
    case $1 in
    raft/util/* | raft/core/* | raft/wire/* | raft/rsm/*) return 0 ;;
    raft/raft.h | raft/wire.h | raft/io.h | raft/rsm.h) return 0 ;;
    client/proto* | client/shard_config* | client/caller* | client/clerk* | client/ctrler_clerk*) return 0 ;;
    client/serve*) return 0 ;;
    */main.c) return 1 ;;
    shardctrler/* | shardkv/*) return 0 ;;
    *) return 1 ;;
    esac
}

while IFS= read -r file; do
    allowed=$(allowed_includes "$file")
    [ -n "$allowed" ] || continue
    while IFS= read -r include; do
        [[ $include =~ $allowed ]] || fail "$file includes \"$include\", which its layer may not"
    done < <(sed -n 's/^#include "\(.*\)"/\1/p' "$file")
    if is_pure "$file" && grep -nE "^#include $forbidden_in_pure" "$file" >&2; then
        fail "$file is pure but includes a header of the world"
    fi
    case $file in
    raft/net/* | client/cli_* | client/packages*) ;;
    *) ! grep -nE '^#include <mbedtls/' "$file" >&2 || fail "$file includes mbedTLS: keys and certificates are raft/net's" ;;
    esac
done < <(find raft client shardctrler shardkv -name '*.[ch]' | sort)

# What pure code may call besides itself.
pure_symbols='^(mem(cpy|move|set|cmp|chr|rchr|mem)|str(len|cmp|ncmp|chr|rchr|nlen|spn|cspn)|bcmp|qsort|bsearch|abort|malloc|calloc|realloc|free|v?snprintf|__(v?snprintf|memcpy|memmove|memset)_chk|__isoc99_sscanf|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__assert_fail|__cpu_model|__popcountdi2|fprintf|__fprintf_chk|stderr|fwrite)$'

check_symbols() {
    local name=$1 library=$build/lib/lib$1.a
    [ -f "$library" ] || return 0
    # fprintf and stderr are for ASSERT's last words only.
    while IFS= read -r symbol; do
        if [[ ! $symbol =~ $pure_symbols ]] && ! grep -qxF "$symbol" <<<"$defined"; then
            fail "$name calls $symbol: pure code may not (move the effect behind raft/io.h)"
        fi
        case $symbol in
        fprintf | __fprintf_chk | stderr | fwrite)
            [ "$name" = raft_util ] || fail "$name prints ($symbol): use a trace"
            ;;
        esac
    done < <(nm -u --quiet "$library" | sed -n 's/^ *[Uw] //p' | grep -vE '^__(asan|ubsan|tsan|sanitizer)' | sort -u)
}

if [ -n "$build" ]; then
    pure_libraries='raft_util raft_core raft_wire raft_rsm client_core client_serve shardctrler_core shardkv_core'
    if ! grep -qE '^SHARDKV_(ASAN|UBSAN|TSAN):BOOL=ON' "$build/CMakeCache.txt"; then
        defined=$(for name in $pure_libraries; do
            [ ! -f "$build/lib/lib$name.a" ] || nm --defined-only --quiet "$build/lib/lib$name.a"
        done | sed -n 's/^[0-9a-f]* [A-Za-z] //p' | sort -u)
        for name in $pure_libraries; do
            check_symbols "$name"
        done
        # Static writable data would be hidden state: the same seed could give another run.
        for name in $pure_libraries; do
            [ -f "$build/lib/lib$name.a" ] || continue
            if nm --quiet "$build/lib/lib$name.a" | grep -E ' [bBdDC] ' >&2; then
                fail "$name has static writable data"
            fi
        done
    fi
fi

if [ "$failures" -gt 0 ]; then
    echo "check_layers: $failures violations" >&2
    exit 1
fi
echo "check_layers: ok"
