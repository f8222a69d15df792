#!/usr/bin/env bash
# Makes what a cluster needs to know who talks: an authority of its own, certificates for servers and
# clients, and the peer key that servers share.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/gen-certs.sh DIR NAME[=HOST,HOST...]... [--client NAME]... [--days N] [--renew]
Makes in DIR, of mode 0700, what is not there yet:
  ca.pem, ca.key      the authority (ten years); ca.key signs, keep it away from the servers
  NAME.pem, NAME.key  a server's certificate for its host names (NAME itself if none is given)
  --client NAME       a client's: it names nobody's host and can't pass for a server
  peer.key            the secret by which the servers of one cluster know each other
Host names are DNS names, as in the servers' URLs: addresses never match. Certificates are valid for
--days (825). --renew makes the named certificates anew; the authority and the peer key stay.
END
}

die() {
    echo "gen-certs.sh: $*" >&2
    exit 2
}

dir= days=825 renew=0
servers=() clients=()
while [ $# -gt 0 ]; do
    case $1 in
    --client) [ $# -ge 2 ] || die "--client needs a name"; clients+=("$2"); shift 2 ;;
    --days) [ $# -ge 2 ] || die "--days needs a number"; days=$2; shift 2 ;;
    --renew) renew=1; shift ;;
    --help | -h) usage; exit 0 ;;
    -*) die "no such option: $1 (see --help)" ;;
    *) if [ -z "$dir" ]; then dir=$1; else servers+=("$1"); fi; shift ;;
    esac
done
[ -n "$dir" ] || { usage >&2; exit 2; }
[ ${#servers[@]} -gt 0 ] || [ ${#clients[@]} -gt 0 ] || die "for whom? name servers or --client (see --help)"
[[ $days =~ ^[0-9]{1,5}$ ]] && [ "$days" -ge 1 ] || die "--days must be a number from 1"
command -v openssl >/dev/null || die "needs openssl: apt-get install openssl"
umask 077
mkdir -p "$dir"

check_name() {
    [[ $1 =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || die "not a name: $1"
}
check_host() {
    check_name "$1"
    [[ ! $1 =~ ^[0-9.]+$ ]] || die "$1 is an address: certificates are for DNS names"
}
# What openssl says is shown only if it fails.
quietly() {
    local said
    said=$("$@" 2>&1) || die "$1 $2 failed: $said"
}
new_key() {
    quietly openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

if [ ! -f "$dir/ca.pem" ]; then
    new_key "$dir/ca.key"
    quietly openssl req -new -x509 -sha256 -key "$dir/ca.key" -days 3650 -subj "/CN=ShardKV authority $(openssl rand -hex 4)" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$dir/ca.pem"
fi
[ -f "$dir/peer.key" ] || openssl rand -hex 32 >"$dir/peer.key"

# sign NAME EXTENSIONS: a key and a certificate of the authority.
sign() {
    local name=$1 work
    [ "$renew" = 1 ] || [ ! -f "$dir/$name.pem" ] || return 0
    [ -f "$dir/ca.key" ] || die "$dir/ca.key is not here: it must sign $name"
    work=$(mktemp -d "$dir/.work.XXXXXX")
    new_key "$work/key"
    quietly openssl req -new -sha256 -key "$work/key" -subj "/CN=$name" -out "$work/csr"
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%s\n' "$2" >"$work/ext"
    quietly openssl x509 -req -sha256 -in "$work/csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
        -days "$days" -extfile "$work/ext" -out "$work/pem"
    mv "$work/key" "$dir/$name.key"
    mv "$work/pem" "$dir/$name.pem"
    rm -rf "$work"
}

for server in "${servers[@]}"; do
    name=${server%%=*} hosts=${server#*=} san=
    check_name "$name"
    for host in ${hosts//,/ }; do
        check_host "$host"
        san="$san${san:+,}DNS:$host"
    done
    [ -n "$san" ] || die "$name: no host names"
    sign "$name" "extendedKeyUsage=serverAuth,clientAuth"$'\n'"subjectAltName=$san"
done
for name in "${clients[@]}"; do
    check_name "$name"
    sign "$name" "extendedKeyUsage=clientAuth"
done

cat <<END
in $dir: $(cd "$dir" && echo *.pem peer.key)
servers, each with its own certificate, on URLs tls+tcp://HOST:PORT:
  --tls-ca $dir/ca.pem --tls-cert $dir/NAME.pem --tls-key $dir/NAME.key --peer-key $dir/peer.key
clients, who get no peer.key:
  --tls-ca $dir/ca.pem --tls-cert $dir/CLIENT.pem --tls-key $dir/CLIENT.key
  or SHARDKV_TLS_CA, SHARDKV_TLS_CERT, SHARDKV_TLS_KEY in the environment
END
