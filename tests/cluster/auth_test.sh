#!/usr/bin/env bash
# Who may talk, on the shipped programs: wrong certificates, plain text and TLS mixed up, servers without
# the peer key, clients that act as servers, two clusters whose ports got mixed up, files that others can
# read. Whoever must be refused is, with a line on each side that says who, why and what to do; and the
# cluster goes on serving. Usage: tests/cluster/auth_test.sh   (after a build; under a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if ! command -v openssl >/dev/null; then
    say "auth_test: skipped: openssl is not installed"
    exit 77
fi
for name in $(env | sed -n 's/^\(SHARDKV_[A-Z_]*\)=.*/\1/p'); do
    [ "$name" = SHARDKV_BUILD ] || unset "$name"
done
work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-auth.XXXXXX")
extra_pids=()
cluster() {
    local which=$1
    shift
    "$root/scripts/cluster.sh" "$@" --dir "$work/$which"
}
stop_extra() {
    local pid
    for pid in "${extra_pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    extra_pids=()
}
cleanup() {
    local code=$? which
    stop_extra
    if [ "$code" -ne 0 ]; then
        tail -n 8 "$work"/*/*.log "$work"/extra.err 2>/dev/null || true
    fi
    for which in tls keyed a b; do cluster "$which" clean >/dev/null 2>&1 || true; done
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

bare=(env -u SHARDKV_TLS_CERT -u SHARDKV_TLS_KEY -u SHARDKV_TLS_CA) # without what load sets

n_checks=0
step() {
    say "== $* ($SECONDS s)"
}
# says FILE PATTERN: within 8 s.
says() {
    local i
    n_checks=$((n_checks + 1))
    for ((i = 0; i < 400; i++)); do
        grep -qE -- "$2" "$1" 2>/dev/null && return 0
        sleep 0.02
    done
    die "${1##*/} does not say '$2'"
}
# refused PATTERN COMMAND...: fails, and the line on stderr matches.
refused() {
    local pattern=$1 code=0
    shift
    n_checks=$((n_checks + 1))
    timeout -k 2 15 "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" = 2 ] || [ "$code" = 3 ] || die "exit code $code: ${*:1:6}: $(tail -n 2 "$work/err")"
    grep -qE -- "$pattern" "$work/err" || die "'$pattern' is not in: $(tail -n 2 "$work/err")"
}
# answers PATTERN PORT WHAT...: what the server says to auth_client.
answers() {
    local pattern=$1 said
    shift
    n_checks=$((n_checks + 1))
    said=$(timeout 15 "$build/tests/auth_client" "$@")
    grep -qE -- "^($pattern)" <<<"$said" || die "auth_client $*: '$said' instead of '$pattern'"
}
works() {
    n_checks=$((n_checks + 1))
    "$bin/shardkv-cli" --timeout 20000 put "$1" "$2" >/dev/null
    [ "$("$bin/shardkv-cli" --timeout 20000 get "$1")" = "$2" ] || die "$1 is not $2"
}
port_of() {
    sed 's/.*://' <<<"$1"
}
# replica_url SPEC ID
replica_url() {
    tr , '\n' <<<"$1" | sed -n "s/^$2=//p"
}
# extra COMMAND...: a server of our own beside the cluster, in place of the last; ended by stop_extra.
extra() {
    stop_extra
    : >"$work/extra.err"
    more "$@"
}
# more COMMAND...: another one, beside it.
more() {
    "$@" >"$work/extra.out" 2>>"$work/extra.err" </dev/null &
    extra_pids+=($!)
}

# ---- Certificates

certs() {
    "$root/scripts/gen-certs.sh" "$@" >"$work/out" 2>"$work/err"
}
test_gen_certs() {
    local at=$work/foreign args
    certs "$at" server=localhost stray=somewhere.else --client client
    [ -z "$(find "$at" -type f ! -perm 600)" ] && [ "$(stat -c %a "$at")" = 700 ] || die "the certificates' files are open"
    openssl verify -CAfile "$at/ca.pem" "$at/server.pem" "$at/client.pem" >/dev/null || die "openssl does not accept them"
    cp "$at/server.pem" "$work/server.before"
    cp "$at/peer.key" "$work/peer.before"
    certs "$at" server=localhost
    cmp -s "$at/server.pem" "$work/server.before" || die "a second run made a certificate anew"
    certs "$at" server=localhost --renew
    ! cmp -s "$at/server.pem" "$work/server.before" && cmp -s "$at/peer.key" "$work/peer.before" || die "--renew renews certificates alone"
    for args in "" "$at" "$at 1.2.3.4" "$at server=10.0.0.1" "$at ../x" "$at x --days 0" "$at x --nonsense"; do
        # shellcheck disable=SC2086
        if certs $args; then die "gen-certs.sh $args was accepted"; fi
        n_checks=$((n_checks + 1))
    done
}
# The certificates that a cluster must not accept, in $work/bad: of another authority, expired, made by
# nobody but themselves.
make_bad_certs() {
    local good=$work/tls/certs bad=$work/bad
    mkdir -p "$bad"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=self \
        -addext subjectAltName=DNS:localhost -keyout "$bad/self.key" -out "$bad/self.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=late -keyout "$bad/late.key" -out "$bad/late.csr" 2>/dev/null
    printf 'subjectAltName=DNS:localhost\n' >"$bad/ext"
    : >"$bad/index"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nserial=%s\nnew_certs_dir=%s\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' \
        "$bad/index" "$bad/serial" "$bad" >"$bad/conf"
    echo 77 >"$bad/serial"
    openssl ca -batch -config "$bad/conf" -in "$bad/late.csr" -cert "$good/ca.pem" -keyfile "$good/ca.key" -extfile "$bad/ext" \
        -startdate 20200101000000Z -enddate 20210101000000Z -out "$bad/late.pem" 2>/dev/null
    chmod 600 "$bad"/*
}

test_tls_clients() {
    local good=$work/tls/certs bad=$work/bad foreign=$work/foreign log=$work/tls/ctrl-1.log
    local us="connection closed from=127.0.0.1:[0-9]+ .*by=us status=DENIED" url first
    url=$(replica_url "$spec_ctrl" 1) # the others' logs are not looked at
    local cli=("${bare[@]}" "$bin/shardkv-cli" --timeout 700 get a)
    first=("${cli[@]}" --ctrlers "$url" --tls-ca "$good/ca.pem")
    works a 1
    refused 'TLS: it wants a certificate of us: give --tls-cert' "${first[@]}"
    says "$log" "$us reason=\"TLS: it shows no certificate: give it --tls-cert"
    refused 'it refuses our certificate: not signed by its --tls-ca' "${first[@]}" --tls-cert "$foreign/client.pem" --tls-key "$foreign/client.key"
    says "$log" "$us reason=\"TLS: its certificate is not signed by our --tls-ca: CN=client"
    refused 'it refuses our certificate: not signed by its --tls-ca' "${first[@]}" --tls-cert "$bad/self.pem" --tls-key "$bad/self.key"
    says "$log" "$us reason=\"TLS: its certificate is self-signed, not by our --tls-ca: CN=self"
    refused 'it refuses our certificate: expired, renew it' "${first[@]}" --tls-cert "$bad/late.pem" --tls-key "$bad/late.key"
    says "$log" "$us reason=\"TLS: its certificate has expired, renew it: CN=late"
    refused 'the key does not belong to the certificate' "${first[@]}" --tls-cert "$good/client.pem" --tls-key "$good/server.key"
    # The client judges the server too.
    local with=(--tls-cert "$good/client.pem" --tls-key "$good/client.key")
    refused 'its certificate is not signed by our --tls-ca: CN=server' "${cli[@]}" --ctrlers "$url" --tls-ca "$foreign/ca.pem" "${with[@]}"
    says "$log" "by=remote status=DENIED reason=\"TLS: it refuses our certificate: not signed by its --tls-ca"
    refused 'does not carry the DNS name it was called by: 127.0.0.1' "${cli[@]}" --ctrlers "tls+tcp://127.0.0.1:$(port_of "$url")" \
        --tls-ca "$good/ca.pem" "${with[@]}"
    says "$log" "by=remote status=DENIED reason=\"TLS: it refuses our certificate: not for the name"
    refused 'tls\+tcp:// needs .*--tls-ca' "${cli[@]}" --ctrlers "$url"
    # Plain text on the TLS port; and the same settings from the environment work.
    refused 'the port speaks TLS, we called it plain' "${cli[@]}" --ctrlers "tcp://127.0.0.1:$(port_of "$url")"
    says "$log" "$us reason=\"TLS: the other side does not speak TLS"
    works a 2
}

# The third replica of group 1, started again with other files than it should have.
test_tls_servers() {
    local good=$work/tls/certs bad=$work/bad foreign=$work/foreign log=$work/tls/g1-1.log
    local kv=("$bin/shardkv" --gid 1 --id 3 --cluster "$spec_g1" --ctrlers "$ctrler_urls" --data "$work/tls/g1-3")
    local ca=(--tls-ca "$good/ca.pem") own=(--tls-cert "$good/server.pem" --tls-key "$good/server.key") key=(--peer-key "$good/peer.key")
    cluster tls stop g1-3 >/dev/null
    extra "${kv[@]}" "${ca[@]}" "${own[@]}"
    says "$work/extra.err" 'peer refused id=1 .*status=DENIED reason="the calling server has no peer key'
    says "$log" 'reason="the calling server has no peer key, the called one has one: start all servers with the same --peer-key"'
    extra "${kv[@]}" "${ca[@]}" "${own[@]}" --peer-key "$foreign/peer.key"
    says "$work/extra.err" 'peer refused id=1 .*by=peer status=DENIED reason="the peer keys differ: start all servers with the same --peer-key"'
    says "$log" 'by=us status=DENIED reason="the peer keys differ'
    extra "${kv[@]}" "${ca[@]}" --tls-cert "$bad/late.pem" --tls-key "$bad/late.key" "${key[@]}"
    says "$work/extra.err" 'TLS warning="our certificate .* has expired on 2021-01-01, others will refuse it: renew it"'
    says "$work/extra.err" 'peer refused id=1 .*by=peer status=DENIED reason="TLS: it refuses our certificate: expired'
    says "$log" 'peer refused id=3 .*by=us status=DENIED reason="TLS: its certificate has expired, renew it: CN=late"'
    # A client's certificate is not good enough for a server.
    extra "${kv[@]}" "${ca[@]}" --tls-cert "$good/client.pem" --tls-key "$good/client.key" "${key[@]}"
    says "$log" 'peer refused id=3 .*by=us status=DENIED reason="TLS: its certificate'
    # Of the right authority, for another host.
    [ -f "$good/stray.pem" ] || certs "$good" stray=somewhere.else
    extra "${kv[@]}" "${ca[@]}" --tls-cert "$good/stray.pem" --tls-key "$good/stray.key" "${key[@]}"
    says "$log" 'peer refused id=3 .*by=us .*does not carry the DNS name it was called by: localhost"'
    # Its own port plain, in everybody's eyes TLS.
    extra "${bare[@]}" "$bin/shardkv" --gid 1 --id 3 --cluster "${spec_g1//,3=tls+/,3=}" --ctrlers "$ctrler_urls" --data "$work/plain3"
    says "$work/extra.err" 'reason="the caller speaks TLS, this port is plain: tcp:// and tls\+tcp:// are mixed up"'
    says "$log" 'peer refused id=3 .*reason="TLS: the other side does not speak TLS'
    # The right one, by environment and file.
    stop_extra
    printf 'peer-key = %s\ntls-ca = %s\n' "$good/peer.key" "$good/ca.pem" >"$work/settings"
    extra env SHARDKV_TLS_CERT="$good/server.pem" SHARDKV_TLS_KEY="$good/server.key" "${kv[@]}" --config "$work/settings"
    says "$work/extra.err" 'peer link up id=1'
    stop_extra
    cluster tls restart g1-3 >/dev/null
    works b 1
}

test_files() {
    local kv=("${bare[@]}" "$bin/shardkv" --gid 1 --id 1 --cluster "1=tcp://127.0.0.1:$(free_port_range 1)" --ctrlers tcp://127.0.0.1:1 --data "$work/alone")
    local key=$work/key mode file
    openssl rand -hex 32 >"$key"
    for mode in 644 640 660 604; do
        chmod "$mode" "$key"
        refused "peer key $key: mode 0$mode lets others use it; run: chmod 600" "${kv[@]}" --peer-key "$key"
    done
    refused "peer key .*No such file" env SHARDKV_PEER_KEY=/nonexistent "${kv[@]}"
    chmod 600 "$key"
    : >"$work/empty"; head -c 100000 /dev/urandom >"$work/huge"
    chmod 600 "$work/empty" "$work/huge"
    refused 'is empty; make one with' "${kv[@]}" --peer-key "$work/empty"
    refused 'is too large for a key' "${kv[@]}" --peer-key "$work/huge"
    refused 'is not a regular file' "${kv[@]}" --peer-key "$work"
    mkdir -p "$work/alone"
    chmod 777 "$work/alone"
    refused "alone: mode 0777 lets others change the data: run chmod 700" "${kv[@]}"
    chmod 755 "$work/alone"
    extra "${kv[@]}"
    says "$work/extra.err" 'data directory path=".*/alone" mode=0755: others can look into it'
    says "$work/extra.out" '^ready'
    stop_extra
    # What the running servers made: the log, LevelDB's files, META, directories.
    file=$(find "$work"/tls/g1-* "$work"/tls/ctrl-* -path "$work/tls/*/*" -perm /077)
    [ -z "$file" ] || die "others can read: $(head -n 1 <<<"$file")"
    file=$(find "$work/alone" -mindepth 1 -perm /077)
    [ -z "$file" ] || die "others can read: $(head -n 1 <<<"$file")"
    [ "$(find "$work"/tls/g1-1 -name '*.ldb' -o -name '*.log' -o -name MANIFEST-'*' -o -name META | wc -l)" -ge 3 ] || die "no files of LevelDB found"
    n_checks=$((n_checks + 3))
}

# ---- The peer key alone, on plain TCP

test_peer_key() {
    local port ctrl
    cluster keyed up --ctrlers 1 --groups 1 --replicas 3 --no-join >/dev/null
    cluster keyed down >/dev/null
    # cluster.sh gives the key by the environment: it knows it only with --tls.
    openssl rand -hex 32 >"$work/shared.key"
    chmod 600 "$work/shared.key"
    SHARDKV_PEER_KEY=$work/shared.key cluster keyed up >/dev/null
    load keyed
    port=$(port_of "$(replica_url "$spec_g1" 1)")
    ctrl=$(port_of "$(replica_url "$spec_ctrl" 1)")
    works k v
    answers 'DENIED the calling server has no peer key' "$port" peer 1 2
    answers 'DENIED the peer keys differ' "$port" claim 1 2
    answers 'CLOSED' "$port" echo 1 2
    answers 'DENIED the peer keys differ' "$ctrl" claim 0 2
    for op in pull release where; do answers 'DENIED only a server that proved the peer key' "$port" $op; done
    for op in confirm bind config; do answers 'DENIED only a server that proved the peer key' "$ctrl" $op; done
    answers '(OK|NOT_FOUND|INVALID|WRONG_GROUP|NOT_LEADER)' "$port" get
    says "$work/keyed/g1-1.log" 'connection closed from=127.0.0.1:[0-9]+ .*by=us status=DENIED reason="the peer keys differ'
    refused 'TLS: the other side does not speak TLS: tcp:// and tls\+tcp:// mixed up' "$bin/shardkv-cli" --timeout 700 get a \
        --ctrlers "tls+$(replica_url "$spec_ctrl" 1)" --tls-ca "$work/foreign/ca.pem"
    says "$work/keyed/ctrl-1.log" 'the caller speaks TLS, this port is plain'
    works k w
    cluster keyed clean >/dev/null
}

# ---- Two clusters

# Cluster b stands where cluster a stood, on the same ports with the same SPECs; then one replica of a
# comes back there, and a whole group of a too.
test_mixed_up() {
    local base n
    base=$(free_port_range 6)
    for n in a b; do
        cluster $n up --base-port "$base" --ctrlers 1 --groups 1 --replicas 3 >/dev/null
        load $n
        works whose $n
        cluster $n down >/dev/null
    done
    cluster b up >/dev/null
    load b
    cluster b stop g1-3 >/dev/null
    local of_a=("$bin/shardkv" --gid 1 --cluster "$spec_g1" --ctrlers "$ctrler_urls")
    extra "${of_a[@]}" --id 3 --data "$work/a/g1-3"
    says "$work/extra.err" 'peer refused id=1 .*by=peer status=WRONG_CLUSTER reason="the cluster ids differ"'
    says "$work/b/g1-1.log" 'connection closed from=127.0.0.1:[0-9]+ .*by=us status=WRONG_CLUSTER reason="the cluster ids differ"'
    works whose b
    for n in 1 2; do cluster b stop g1-$n >/dev/null; done
    for n in 1 2; do more "${of_a[@]}" --id $n --data "$work/a/g1-$n"; done
    says "$work/extra.err" 'endpoint refused url=.* by=server status=WRONG_CLUSTER reason="the cluster ids differ"'
    says "$work/b/ctrl-1.log" 'by=us status=WRONG_CLUSTER reason="the cluster ids differ"'
    stop_extra
    cluster b up >/dev/null
    works whose b
    cluster b down >/dev/null
    cluster a up >/dev/null
    load a
    n_checks=$((n_checks + 1))
    [ "$("$bin/shardkv-cli" --timeout 20000 get whose)" = a ] || die "cluster a lost its data"
    cluster a clean >/dev/null
    cluster b clean >/dev/null
}

# ---- All of it

# The shape of a cluster, and how clients reach it.
load() {
    unset SHARDKV_TLS_CA SHARDKV_TLS_CERT SHARDKV_TLS_KEY
    # shellcheck disable=SC1090,SC1091
    source "$work/$1/cluster.env"
    eval "$(cluster "$1" env)"
}

[ -x "$bin/shardkv" ] && [ -x "$build/tests/auth_client" ] || die "build first"
step "certificates"
test_gen_certs
step "a cluster with TLS and a peer key"
cluster tls up --tls --ctrlers 1 --groups 1 --replicas 3 >/dev/null
load tls
make_bad_certs
step "clients with wrong certificates, or none"
test_tls_clients
step "servers with wrong certificates, or keys"
test_tls_servers
step "files that others can use"
test_files
cluster tls clean >/dev/null
step "a peer key on plain TCP"
unset SHARDKV_TLS_CA SHARDKV_TLS_CERT SHARDKV_TLS_KEY
test_peer_key
step "two clusters whose ports got mixed up"
test_mixed_up
say "auth_test: $n_checks checks passed in $SECONDS s"
