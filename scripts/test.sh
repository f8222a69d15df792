#!/usr/bin/env bash
# Installs what is needed, builds, and runs every default test.
# Usage: scripts/test.sh [--asan | --tsan] [CTEST ARGUMENTS...]
#   --asan   the same tests in a build with AddressSanitizer and UndefinedBehaviorSanitizer
#   --tsan   the same tests in a build with ThreadSanitizer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

options=()
case ${1:-} in
--asan)
    build=$root/build-asan
    options=(-DSHARDKV_ASAN=ON -DSHARDKV_UBSAN=ON)
    shift
    ;;
--tsan)
    build=$root/build-tsan
    options=(-DSHARDKV_TSAN=ON)
    export TSAN_OPTIONS="suppressions=$root/tests/tsan.supp ${TSAN_OPTIONS:-}"
    shift
    ;;
--help)
    sed -n '2,5s/^# //p' "$0"
    exit 0
    ;;
esac
export SHARDKV_BUILD=$build

say "== build"
build_all "${options[@]}"
say "== layers and style"
bash "$root/scripts/check_layers.sh" "$build"
bash "$root/scripts/check_style.sh"
say "== tests"
ctest --test-dir "$build" --output-on-failure -j2 "$@"
