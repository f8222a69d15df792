#!/usr/bin/env bash
# Installs what building and testing need, from Debian's packages. Does nothing when all is there.
set -euo pipefail
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
