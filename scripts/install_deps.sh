#!/usr/bin/env bash
# Installs what building and testing need, from Debian's packages. Does nothing when all is there.
# With --promtool: that program alone, out of Debian's package prometheus (which would bring a running
# server and its pages along). tests/cluster/metrics_test.sh checks the metrics with it, if it is there.
set -euo pipefail

install_promtool() {
    local work
    [ "$(id -u)" -eq 0 ] || { echo "install_deps: not root" >&2; exit 1; }
    work=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    (cd "$work" && apt-get download -q prometheus)
    dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/promtool
    install -m 755 "$work/usr/bin/promtool" /usr/local/bin/promtool
}
if [ "${1:-}" = --promtool ]; then
    command -v promtool >/dev/null || install_promtool
    exit 0
fi
packages="build-essential cmake ninja-build pkg-config clang-format iproute2 openssl
    libnng-dev libleveldb-dev libcmocka-dev libjansson-dev libedit-dev libbsd-dev uthash-dev libxxhash-dev libmbedtls-dev"
missing=
for package in $packages; do
    [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "install_deps: not root; please install:$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing
