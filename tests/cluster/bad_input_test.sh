#!/usr/bin/env bash
# Bad input on the real programs: every flag, verb and file wrong, missing, too large, damaged or of
# another cluster; hostile bytes on the sockets. Each must end in one clear line and the exit code of
# the contract (raft/host.h, client/cli.h), and what was acknowledged must be there in the end.
# Usage: tests/cluster/bad_input_test.sh   (after a build; under a minute)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-bad.XXXXXX")
chmod 755 "$work" # another user must reach the directory that it may not read
dir=$work/cluster
server_pid=
for name in $(env | sed -n 's/^\(SHARDKV_[A-Z_]*\)=.*/\1/p'); do
    [ "$name" = SHARDKV_BUILD ] || unset "$name"
done
cluster() {
    "$root/scripts/cluster.sh" "$@" --dir "$dir"
}
cleanup() {
    local code=$?
    [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null || true
    if [ "$code" -ne 0 ]; then
        tail -n 10 "$dir"/*.log "$work/err" 2>/dev/null || true
    fi
    cluster clean >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT

n_checks=0
step() {
    say "== $* ($((SECONDS)) s)"
}
fail() {
    say "--- stdout"; head -c 2000 "$work/out"
    say "--- stderr"; head -c 2000 "$work/err"
    die "$*"
}
# The lines on stderr (of a server that runs beside: server.err) that are no traces.
messages() {
    grep -avE '^20[0-9]{2}-[0-9-]+T[0-9:.]+Z (error|warn|info|debug) ' "$work/${1:-err}" || true
}
# refused CODE PATTERN COMMAND...: it must end by itself with that exit code, say nothing on stdout and
# exactly one line on stderr, which matches the extended regular expression.
refused() {
    local want=$1 pattern=$2 code=0
    shift 2
    n_checks=$((n_checks + 1))
    timeout -k 2 20 "$@" >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = "$want" ] || fail "expected exit code $want, got $code: ${*:1:12}"
    [ "$(messages | wc -l)" = 1 ] || fail "expected one line on stderr: ${*:1:12}"
    [ "$(messages | wc -c)" -lt 600 ] || fail "the line is too long: ${*:1:12}"
    grep -qE -- "^(shardkv|shardctrler|shardkv-cli): .*($pattern)" <<<"$(messages)" || fail "the line says nothing about '$pattern': ${*:1:12}"
    [ ! -s "$work/out" ] || fail "something on stdout: ${*:1:12}"
}
# ends CODE COMMAND...: the exit code alone.
ends() {
    local want=$1 code=0
    shift
    n_checks=$((n_checks + 1))
    timeout -k 2 20 "$@" >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = "$want" ] || fail "expected exit code $want, got $code: ${*:1:12}"
}

# ---- A server of our own, for what needs no cluster

port=$(free_port_range 4)
url=tcp://127.0.0.1:$port
data=$work/data
# The flags of a good start; a test leaves some out or adds others.
kv=("$bin/shardkv" --gid 1 --id 1 --cluster "1=$url" --ctrlers tcp://127.0.0.1:1)
ctrl=("$bin/shardctrler" --id 1 --cluster "1=$url")

server_fail() {
    cp "$work/server.err" "$work/err"
    fail "$@"
}
# starts COMMAND...: it must become ready; end it with stop_server.
starts() {
    local i
    n_checks=$((n_checks + 1))
    "$@" >"$work/out" 2>"$work/server.err" </dev/null &
    server_pid=$!
    for ((i = 0; i < 400; i++)); do
        grep -q '^ready ' "$work/out" && return 0
        kill -0 "$server_pid" 2>/dev/null || server_fail "did not start: ${*:1:12}"
        sleep 0.02
    done
    server_fail "not ready after 8 s: ${*:1:12}"
}
# stop_server SIGNAL: exit 0 within 2 s and nothing but traces on stderr. A disk that other programs keep busy may
# make that too short now and then: the server says so, and ends all the same.
n_slow=0
stop_server() {
    local code=0 begin
    begin=$(date +%s%N)
    kill "-$1" "$server_pid"
    wait "$server_pid" || code=$?
    server_pid=
    if [ "$code" = 1 ] && grep -q 'hangs: ended without closing' <<<"$(messages server.err)" || [ $((($(date +%s%N) - begin) / 1000000)) -gt 2000 ]; then
        n_slow=$((n_slow + 1))
        [ "$n_slow" -le 2 ] || server_fail "took longer than 2 s to end, for the third time"
        return 0
    fi
    [ "$code" = 0 ] || server_fail "exit code $code after $1"
    [ "$(messages server.err | wc -l)" = 0 ] || server_fail "more than traces on stderr"
}

test_flags() {
    local gid=(--gid 1) id=(--id 1) spec=(--cluster "1=$url") urls=(--ctrlers tcp://127.0.0.1:1) at=(--data "$data")
    local kv="$bin/shardkv" value flag

    refused 2 '--gid: is required' "$kv"
    refused 2 '--gid: is required' "$kv" "${id[@]}" "${spec[@]}" "${urls[@]}" "${at[@]}"
    refused 2 '--id: is required' "$kv" "${gid[@]}" "${spec[@]}" "${urls[@]}" "${at[@]}"
    refused 2 '--cluster: is required' "$kv" "${gid[@]}" "${id[@]}" "${urls[@]}" "${at[@]}"
    refused 2 '--ctrlers: is required' "$kv" "${gid[@]}" "${id[@]}" "${spec[@]}" "${at[@]}"
    refused 2 '--data: is required' "$kv" "${gid[@]}" "${id[@]}" "${spec[@]}" "${urls[@]}"
    refused 2 '--data: is required' "$kv" "${gid[@]}" "${id[@]}" "${spec[@]}" "${urls[@]}" --data ""
    refused 2 '--id: is required' "$bin/shardctrler"
    for flag in gid id cluster ctrlers data config election-timeout heartbeat metrics tls-cert tls-key tls-ca peer-key log-level; do
        refused 2 "--$flag: needs a value" "$kv" "--$flag"
        refused 2 "--$flag(=x)?: given twice" "$kv" "--$flag" x "--$flag=x"
    done
    for value in 0 -1 2147483648 99999999999999999999 x 1x "" " 1" 0x1; do
        refused 2 '--gid: must be a number from 1 to 2147483647' "$kv" --gid "$value" "${id[@]}" "${spec[@]}" "${urls[@]}" "${at[@]}"
        [ "$value" = 2147483648 ] || refused 2 '--id: must be a number from 1 to 255' "$kv" "${gid[@]}" --id "$value" "${spec[@]}" "${urls[@]}" "${at[@]}"
    done
    refused 2 '--id: must be a number' "$kv" "${gid[@]}" --id 256 "${spec[@]}" "${urls[@]}" "${at[@]}"
    for value in "" x 1 "1=" "=$url" "0=$url" "256=$url" "1=http://h:1" "1=tcp://h" "1=tcp://h:0" "1=tcp://h:65536" \
        "1=tcp://:1" "1=tcp://h:x" "1=tcp://h:1/p" "1=ipc://" "1=ipc:///" "1=$url," "1=$url,1=tcp://h:2" "1=$url,2=$url" \
        "1=tcp://$(head -c 300 /dev/zero | tr '\0' h):1" "$(for i in 1 2 3 4 5 6 7 8 9 10; do printf '%s=tcp://h:%s,' $i $i; done)11=tcp://h:11"; do
        refused 2 '--cluster: ' "$kv" "${gid[@]}" "${id[@]}" --cluster "$value" "${urls[@]}" "${at[@]}"
        refused 2 '--ctrlers: ' "$kv" "${gid[@]}" "${id[@]}" "${spec[@]}" --ctrlers "${value/#1=tcp/tcp:}," "${at[@]}"
    done
    refused 2 "--cluster: does not name this replica's --id" "$kv" "${gid[@]}" --id 2 "${spec[@]}" "${urls[@]}" "${at[@]}"
    set -- "$kv" "${gid[@]}" "${id[@]}" "${spec[@]}" "${urls[@]}" "${at[@]}"
    refused 2 'no such option' "$@" --nonsense
    refused 2 'no such option' "$@" --nonsense=1
    refused 2 'no such option' "$@" --shards 16
    refused 2 'no such option' "$@" --
    refused 2 'options begin with --' "$@" extra
    refused 2 'options begin with --' "$@" -h
    refused 2 'argument a\?b: options begin with --' "$@" $'a\nb'
    refused 2 '--gid: given twice' "$@" --gid 1
    for value in 19 60001 x -5 ""; do refused 2 '--election-timeout: must be a number from 20' "$@" --election-timeout "$value"; done
    for value in 4 30001 1e3; do refused 2 '--heartbeat: must be a number from 5' "$@" --heartbeat "$value"; done
    refused 2 '--heartbeat: must be at most half' "$@" --heartbeat 200
    for value in x http:// http://127.0.0.1 http://127.0.0.1: http://127.0.0.1:x http://127.0.0.1:70000 http://:1 https://127.0.0.1:1; do
        refused 2 '--metrics: must be http://host:port' "$@" --metrics "$value"
    done
    refused 2 '--log-level: must be error' "$@" --log-level loud
    refused 2 '--tls-cert: needs --tls-key' "$@" --tls-cert x
    refused 2 '--tls-cert: needs --tls-key' "$@" --tls-key x
    refused 2 '--tls-ca: belongs together' "$@" --tls-ca x
    refused 2 '--tls-ca: belongs together' "$@" --tls-cert x --tls-key x
    refused 2 '--tls-cert: is of no use' "$@" --tls-cert x --tls-key x --tls-ca x
    refused 2 '/nonexistent.pem: No such file' "${@/1=$url/1=tls+$url}" --tls-cert /nonexistent.pem --tls-key "$work" --tls-ca "$work"
    refused 2 "$work is not a PEM file" "${@/1=$url/1=tls+$url}" --tls-cert "$work" --tls-key "$work" --tls-ca "$work"
    refused 2 'a TLS certificate and key' "$kv" "${gid[@]}" "${id[@]}" --cluster "1=tls+$url" "${urls[@]}" "${at[@]}"
    refused 2 'cannot listen on ipc:///nonexistent/x' "$kv" "${gid[@]}" "${id[@]}" --cluster 1=ipc:///nonexistent/x "${urls[@]}" "${at[@]}"
    for value in 15 17 48 16385 32768 0 x; do refused 2 '--shards: must be' "${ctrl[@]}" --data "$data" --shards "$value"; done
    refused 2 'no such option' "${ctrl[@]}" --data "$data" --gid 1
    refused 2 'no such option' "${ctrl[@]}" --data "$data" --ctrlers tcp://127.0.0.1:1
    ends 0 "$kv" --help
    ends 0 "$kv" --version
    ends 0 "$bin/shardctrler" --help
}

test_file_and_environment() {
    local file=$work/settings line

    refused 2 "--config $file: No such file" "${kv[@]}" --data "$data" --config "$file"
    refused 2 "--config $work: Is a directory" "${kv[@]}" --data "$data" --config "$work"
    for line in 'nonsense = 1|nonsense: no such option' 'no equals sign|expected .name = value.' '[section]|expected .name = value.' \
        'heartbeat = x|heartbeat: must be a number' 'config = x|config: no such option' '= 5|no such option' 'heartbeat =|heartbeat: must be'; do
        printf '# a comment\n\n%s\nanother = mistake\nand another\n' "${line%%|*}" >"$file"
        [[ $line != *must* ]] || printf '# a comment\n\n%s\n' "${line%%|*}" >"$file"
        refused 2 "$file:3: ${line#*|}" "${kv[@]}" --data "$data" --config "$file"
    done
    printf 'heartbeat = 20\nheartbeat = 30\n' >"$file"
    refused 2 "$file:2: heartbeat: given twice" "${kv[@]}" --data "$data" --config "$file"
    printf 'heartbeat = 20\0\nheartbeat = 30\n' >"$file"
    refused 2 "$file:1: " "${kv[@]}" --data "$data" --config "$file"
    head -c 9000 /dev/zero | tr '\0' x >"$file"
    refused 2 "$file:1: is too long" "${kv[@]}" --data "$data" --config "$file"
    head -c 9000 /dev/urandom >"$file"
    refused 2 "$file:[0-9]+: " "${kv[@]}" --data "$data" --config "$file"
    refused 2 'SHARDKV_HEARTBEAT: must be a number' env SHARDKV_HEARTBEAT=x "${kv[@]}" --data "$data"
    refused 2 'SHARDKV_ELECTION_TIMEOUT: must be a number' env SHARDKV_ELECTION_TIMEOUT= "${kv[@]}" --data "$data"
    refused 2 '--config /nonexistent: No such file' env SHARDKV_CONFIG=/nonexistent "${kv[@]}" --data "$data"

    # The command line wins over the environment, that over the file; long lines are read whole.
    printf 'data=/nonexistent/a\n  heartbeat  =  x  \r\ncluster = 1=%s' "$url" >"$file"
    for line in 2 3 4 5 6 7 8 9; do printf ',%s=tcp://a-host-with-quite-a-long-name.example.org:200%s' $line $line >>"$file"; done
    starts env SHARDKV_DATA="$data.env" SHARDKV_HEARTBEAT=y SHARDKV_CONFIG="$file" \
        "$bin/shardkv" --gid 1 --id 1 --ctrlers tcp://127.0.0.1:1 --heartbeat 40
    stop_server INT
    [ -f "$data.env/META" ] || fail "the data directory is not that of the environment"
    rm -rf "$data.env"
}

# put_bytes FILE OFFSET BYTES: overwrites bytes in place (printf escapes).
put_bytes() {
    # shellcheck disable=SC2059
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# As another user, whom permissions bind; only root can become one.
as_nobody=()
[ "$(id -u)" != 0 ] || as_nobody=(setpriv --reuid 65534 --clear-groups)

test_data_directory() {
    local other=$((port + 1)) meta=$data/META

    echo x >"$work/file"
    refused 2 "$work/file: Not a directory" "${kv[@]}" --data "$work/file"
    refused 2 "$work/file/x: Not a directory" "${kv[@]}" --data "$work/file/x"
    refused 2 "$work/no/parent: No such file" "${kv[@]}" --data "$work/no/parent"
    mkdir "$work/foreign" "$work/locked"
    echo precious >"$work/foreign/thesis.txt"
    refused 2 'is not empty and no data directory \(it holds thesis.txt\)' "${kv[@]}" --data "$work/foreign"
    [ "$(ls -A "$work/foreign")" = thesis.txt ] || die "a foreign directory was touched"
    chmod 000 "$work/locked"
    cp "$bin/shardkv" "$work/shardkv" # where the other user may run it
    refused 2 "$work/locked: Permission denied" "${as_nobody[@]}" "$work/shardkv" "${kv[@]:1}" --data "$work/locked"
    refused 2 "$work/mine: Permission denied" "${as_nobody[@]}" "$work/shardkv" "${kv[@]:1}" --data "$work/mine"
    chmod 700 "$work/locked"

    starts "${kv[@]}" --data "$data"
    refused 2 'is in use' "${kv[@]}" --data "$data"
    refused 2 "cannot listen on $url: Address in use" "${kv[@]}" --data "$data.2"
    refused 2 "cannot listen on tcp://127.0.0.1:$port: Address in use" "$bin/shardkv" --gid 1 --id 1 --cluster "1=tcp://127.0.0.1:$other" \
        --ctrlers tcp://127.0.0.1:1 --data "$data.3" --metrics "http://127.0.0.1:$port"
    stop_server TERM
    refused 2 'belongs to group 1 replica 1, not to group 2 replica 1' "$bin/shardkv" --gid 2 "${kv[@]:3}" --data "$data"
    refused 2 'belongs to group 1 replica 1, not to group 1 replica 2' "$bin/shardkv" --gid 1 --id 2 --cluster "2=$url" \
        --ctrlers tcp://127.0.0.1:1 --data "$data"
    refused 2 'belongs to group 1 replica 1, not to group 0' "${ctrl[@]}" --data "$data"

    cp "$meta" "$work/META"
    put_bytes "$meta" 20 XYZ
    refused 3 "$meta is damaged" "${kv[@]}" --data "$data"
    : >"$meta"
    refused 3 "$meta is damaged" "${kv[@]}" --data "$data"
    head -c 100000 /dev/zero >"$meta"
    refused 3 "$meta is damaged" "${kv[@]}" --data "$data"
    rm "$meta"
    refused 3 "$meta is missing, but there is data" "${kv[@]}" --data "$data"
    forge_meta "$work/META" "$meta" 4 2
    refused 2 "$meta is of format 2, this program reads up to 1" "${kv[@]}" --data "$data"
    cp "$work/META" "$meta"
    starts "${kv[@]}" --data "$data"
    stop_server TERM
}

# forge_meta FROM TO OFFSET BYTE: a META with another byte and a checksum that is right again.
forge_meta() {
    perl -e '
        my ($from, $to, $offset, $byte) = @ARGV;
        open(my $in, "<:raw", $from) or die; local $/; my $meta = <$in>;
        substr($meta, $offset, 1) = chr($byte);
        my $crc = 0xffffffff;
        for my $b (unpack("C*", substr($meta, 0, 12) . substr($meta, 16))) {
            $crc ^= $b;
            $crc = ($crc >> 1) ^ (($crc & 1) ? 0x82f63b78 : 0) for 1 .. 8;
        }
        substr($meta, 12, 4) = pack("V", $crc ^ 0xffffffff);
        open(my $out, ">:raw", $to) or die; print $out $meta;' "$@"
}

# ---- A cluster of one controller and one group of one replica

cli() {
    "$bin/shardkv-cli" "$@"
}
# puts N: requests that put key-i = value-i; gets N: that ask for them.
puts() {
    seq "$1" | awk '{ printf "{\"id\":%d,\"op\":\"put\",\"key\":\"key-%d\",\"arg\":\"value-%d\"}\n", $1, $1, $1 }'
}
n_keys=300
n_big=5 # of 16 MiB: enough for a checkpoint
check_nothing_lost() {
    local i
    seq "$n_keys" | awk '{ printf "{\"id\":%d,\"op\":\"get\",\"key\":\"key-%d\"}\n", $1, $1 }' | cli pipe >"$work/replies"
    sed -n 's/.*"out":"\([^"]*\)".*/\1/p' "$work/replies" | cmp - <(seq "$n_keys" | sed 's/^/value-/') || die "values were lost $1"
    for ((i = 1; i <= n_big; i++)); do
        cli get --raw "big-$i" | cmp - "$work/big" || die "a large value was lost $1"
    done
}

test_cli_usage() {
    local c=("$bin/shardkv-cli") verb value
    local long=$(head -c 4097 /dev/zero | tr '\0' k)

    refused 2 'a verb is missing' "${c[@]}"
    refused 2 'no such verb: nonsense' "${c[@]}" nonsense
    refused 2 'no such verb: a\\nb' "${c[@]}" $'a\nb'
    refused 2 'no such option: --nonsense' "${c[@]}" --nonsense get a
    for value in --ctrlers --prefer --timeout --tls-cert --tls-key --tls-ca; do refused 2 "$value needs a value" "${c[@]}" get a "$value"; done
    for value in x 0 -1 86400001 ""; do refused 2 '--timeout must be' "${c[@]}" --timeout "$value" get a; done
    for value in "" x http://h:1 tcp://h "$ctrler_urls," 1=tcp://h:1; do
        refused 2 'ctrlers: ' "${c[@]}" --ctrlers "$value" get a
        refused 2 'ctrlers: ' env SHARDKV_CTRLERS="$value" "${c[@]}" put a b
        refused 2 'prefer: ' "${c[@]}" --prefer "$value" get a
    done
    refused 2 'where are the controllers\?.*SHARDKV_CTRLERS' env -u SHARDKV_CTRLERS "${c[@]}" get a
    refused 2 'a TLS certificate and its key' "${c[@]}" --tls-cert /nonexistent get a
    refused 2 '/nonexistent: No such file' "${c[@]}" --tls-ca /nonexistent get a
    for value in "get" "get a b" "put" "put a" "put a b c" "append" "append a" "append a b c" "del" "del a b" "cas a --absent" "cas" \
        "cas a b c --absent" "scan a b"; do
        # shellcheck disable=SC2086
        refused 2 "${value%% *}: wrong number of arguments" "${c[@]}" $value
    done
    for verb in get put append del cas scan; do refused 2 "$verb: no such option: --nonsense" "${c[@]}" $verb --nonsense a; done
    refused 2 'cas: give either --absent or --expect' "${c[@]}" cas a b
    refused 2 'cas: give either --absent or --expect' "${c[@]}" cas a --absent --expect b c
    refused 2 'cas: --expect needs a value' "${c[@]}" cas a b --expect
    refused 2 'scan: --limit needs a value' "${c[@]}" scan --limit
    for value in x -1 "" 99999999999999999999; do refused 2 'scan: --limit must be a number' "${c[@]}" scan --limit "$value"; done
    for value in x -1 "1 2"; do
        # shellcheck disable=SC2086
        refused 2 'config: takes at most the number' "${c[@]}" config $value
    done
    refused 2 'join: needs GID SPEC' "${c[@]}" join
    refused 2 'join: needs GID SPEC' "${c[@]}" join 5
    refused 2 'join: needs GID SPEC' "${c[@]}" join 5 "1=$url" 6
    for value in 0 x -1 2147483648; do
        refused 2 'join: a GID is a number' "${c[@]}" join "$value" "1=$url"
        refused 2 'leave: a GID is a number' "${c[@]}" leave "$value"
        refused 2 'move: needs the number of a shard and a GID' "${c[@]}" move 1 "$value"
    done
    for value in x 1=x "$url" "1=$url,1=$url"; do refused 2 'join: .*a SPEC is ID=URL' "${c[@]}" join 5 "$value"; done
    refused 2 'leave: needs 1 to 64 GIDs' "${c[@]}" leave
    # shellcheck disable=SC2046
    refused 2 'leave: needs 1 to 64 GIDs' "${c[@]}" leave $(seq 65)
    for value in "" "1" "x 1" "1 1 1"; do
        # shellcheck disable=SC2086
        refused 2 'move: needs' "${c[@]}" move $value
    done
    for value in "" "1" "x 1" "1 256" "1 1 1" "2147483648 1"; do
        # shellcheck disable=SC2086
        refused 2 'transfer: needs' "${c[@]}" transfer $value
    done
    for verb in status wait pipe version; do refused 2 "$verb: takes " "${c[@]}" $verb extra; done
    refused 2 'help: no such verb' "${c[@]}" help nonsense
    refused 2 'help: takes at most one' "${c[@]}" help get put
    for value in "--op x" "--op" "--read-ratio 2" "--read-ratio x" "--clients 0" "--clients x" "--connections 0" "--connections 999" \
        "--key-bytes 0" "--key-bytes 4097" "--key-bytes 2" "--value-bytes 16777217" "--keys 0" "--seconds 0" "--ops 0" "--rate 0" \
        "--rate nan" "--clients 2 --connections 3" "--nonsense" "x"; do
        # shellcheck disable=SC2086
        refused 2 'bench: ' "${c[@]}" bench $value
    done
    ends 0 "${c[@]}" help
    ends 0 "${c[@]}" help bench
    ends 0 "${c[@]}" --help
    ends 0 "${c[@]}" get --help
    ends 0 "${c[@]}" version
    ends 0 "${c[@]}" --version

    # Past the limits, and what is not there: certainly not applied.
    for verb in get del; do
        refused 3 "$verb k{80}\.\.\. \(4097 bytes\): .*1 to 4096 bytes" "${c[@]}" $verb "$long"
        refused 3 "$verb \"\": .*1 to 4096 bytes" "${c[@]}" $verb ""
    done
    for verb in put append; do
        refused 3 "$verb k{80}\.\.\.: |1 to 4096 bytes" "${c[@]}" $verb "$long" v
        refused 3 "$verb k: too large: .*at most 16 MiB" "${c[@]}" $verb k - < <(head -c $(((16 << 20) + 1)) /dev/zero)
    done
    refused 3 'scan k.*at most 4096 bytes' "${c[@]}" scan "$long"
    refused 1 'get a\\nb: no such key' "${c[@]}" get $'a\nb'
    refused 1 'get k+: no such key' "${c[@]}" get "${long:0:80}"
    refused 1 'del \\xff: no such key' "${c[@]}" del $'\xff'
    refused 1 'cas key-1: the value is not' "${c[@]}" cas key-1 --expect other new
    refused 3 'group 77 is not a member' "${c[@]}" leave 77
    refused 3 'group 77 is not a member' "${c[@]}" move 1 77
    refused 3 'there is no shard 16: they are 0 to 15' "${c[@]}" move 16 1
    refused 3 'transfer 77: no such group' "${c[@]}" transfer 77 1
    refused 3 "transfer 1: .*no such replica" "${c[@]}" transfer 1 9
    refused 3 "join 1: " "${c[@]}" join 1 "1=$url"
    refused 3 "join 2: " "${c[@]}" join 2 "$spec_g1"

    # A result that can't be printed: a read failed, but a change was made.
    for value in "get key-1" config "--json moves" "replica list 1" "move 1 1 --dry-run"; do
        # shellcheck disable=SC2086
        refused 3 'standard output: ' bash -c '"$@" >/dev/full' - "${c[@]}" $value
    done
    for value in "append unprinted v" "--json put unprinted v" "moves resume"; do
        # shellcheck disable=SC2086
        refused 4 'standard output: ' bash -c '"$@" >/dev/full' - "${c[@]}" $value
    done
}

# Nobody listens: nothing was sent, so nothing is applied.
test_cli_without_servers() {
    local c=("$bin/shardkv-cli" --timeout 100 --ctrlers "$url") verb

    for verb in "get a" "put a b" "append a b" "del a" "cas a --absent b" "scan" "config" "join 5 1=$url" "leave 5" "move 1 5" \
        "transfer 1 1"; do
        # shellcheck disable=SC2086
        refused 3 "${verb%% *} .*(can't be reached|no controller has answered).*; try again" "${c[@]}" $verb
    done
    refused 3 'wait: timed out' "${c[@]}" wait
    ends 3 "${c[@]}" bench --ops 1 --clients 1
    ends 0 "${c[@]}" status
    grep -q down "$work/out" || fail "status does not show it down"
    printf '{"id":1,"op":"get","key":"k"}\n{"id":2,"op":"put","key":"k","arg":"v"}\n' | ends 0 "${c[@]}" pipe
    [ "$(grep -c '"ok":false' "$work/out")" = 2 ] || fail "pipe without servers"
}

test_pipe() {
    local long deep
    long=$(head -c 4097 /dev/zero | tr '\0' k)
    deep=$(head -c 100000 /dev/zero | tr '\0' '[')
    # Each line, a tab, and what its reply must look like.
    cat >"$work/lines" <<END
	{"id":null,"ok":false,
not json	{"id":null,"ok":false,"err":"not JSON
{	{"id":null,"ok":false,"err":"not JSON
{"id":1	{"id":null,"ok":false,"err":"not JSON
{"id":1,"op":"get","key":"key-1"} more	{"id":null,"ok":false,"err":"not JSON
"text"	{"id":null,"ok":false,"err":"a request is a JSON object
[1,2]	{"id":null,"ok":false,"err":"a request is a JSON object
null	{"id":null,"ok":false,"err":"a request is a JSON object
17	{"id":null,"ok":false,"err":"a request is a JSON object
{}	{"id":null,"ok":false,"err":"\"op\" must be
{"id":2}	{"id":2,"ok":false,"err":"\"op\" must be
{"id":3,"op":7}	{"id":3,"ok":false,"err":"\"op\" must be
{"id":4,"op":"nonsense"}	{"id":4,"ok":false,"err":"\"op\" must be
{"id":{"a":[1]},"op":"x"}	{"id":{"a":[1]},"ok":false,
{"id":5,"op":"get"}	{"id":5,"ok":false,"err":"\"key\" is missing
{"id":6,"op":"get","key":7}	{"id":6,"ok":false,"err":"keys and values are strings
{"id":7,"op":"get","key":["a"]}	{"id":7,"ok":false,"err":"keys and values are strings
{"id":8,"op":"get","key":{"base64":7}}	{"id":8,"ok":false,"err":"keys and values are strings
{"id":9,"op":"get","key":{"base64":"*"}}	{"id":9,"ok":false,"err":"keys and values are strings
{"id":10,"op":"get","key":{"base64":"YQ="}}	{"id":10,"ok":false,"err":"keys and values are strings
{"id":11,"op":"get","key":{"x":"YQ=="}}	{"id":11,"ok":false,"err":"keys and values are strings
{"id":12,"op":"get","key":""}	{"id":12,"ok":false,"err":"a key has 1 to 4096 bytes
{"id":13,"op":"get","key":"$long"}	{"id":13,"ok":false,"err":"a key has 1 to 4096 bytes
{"id":14,"op":"put","key":"k"}	{"id":14,"ok":false,"err":"\"arg\" is missing
{"id":15,"op":"put","key":"k","arg":1}	{"id":15,"ok":false,"err":"keys and values are strings
{"id":16,"op":"append","key":"k","arg":null}	{"id":16,"ok":false,"err":"\"arg\" is missing
{"id":17,"op":"cas","key":"k","arg":"v"}	{"id":17,"ok":false,"err":"\"arg2\" is missing
{"id":18,"op":"put","key":"$long","arg":"v"}	{"id":18,"ok":false,"err":"a key
{"id":19,"op":"status"}	{"id":19,"ok":false,"err":"\"node\" must be a URL
{"id":20,"op":"status","node":"nonsense"}	{"id":20,"ok":false,"err":"invalid argument: a URL is
{"id":21,"op":"status","node":"$url","timeout_ms":-1}	{"id":21,"ok":false,"err":"\"timeout_ms\" must
{"id":22,"op":"status","node":"$url","timeout_ms":100}	{"id":22,"ok":false,
{"id":23,"op":"config","num":-1}	{"id":23,"ok":false,"err":"\"num\" must
{"id":24,"op":"join","gid":0,"cluster":"x"}	{"id":24,"ok":false,"err":"\"gid\" must
{"id":25,"op":"join","gid":5,"cluster":"x"}	{"id":25,"ok":false,"err":"invalid argument: a gid is
{"id":26,"op":"join","gid":5}	{"id":26,"ok":false,"err":"\"cluster\" must
{"id":27,"op":"leave","gid":77}	{"id":27,"ok":false,"err":"no such group
{"id":28,"op":"leave","gid":"1"}	{"id":28,"ok":false,"err":"\"gid\" must
{"id":29,"op":"move","shard":99,"gid":1}	{"id":29,"ok":false,"err":"invalid argument: there is no shard 99
{"id":30,"op":"move","shard":1.5,"gid":1}	{"id":30,"ok":false,"err":"\"shard\" must
{"id":1e999,"op":"get","key":"k"}	{"id":null,"ok":false,"err":"not JSON
{"id":"\ud800","op":"get","key":"k"}	{"id":null,"ok":false,"err":"not JSON
$deep	{"id":null,"ok":false,"err":"not JSON
{"id":31,"op":"get","key":"key-1"}	{"id":31,"ok":true,"out":"value-1"}
END
    {
        cut -f1 "$work/lines"
        printf '{"id":1,"op":"get","key":"\xff\xfe"}\n\0\0\n\r\n'
        head -c $(((48 << 20) + 1)) /dev/zero | tr '\0' x
        printf '\n{"id":40,"op":"put","key":"k","arg":"'
        head -c $(((16 << 20) + 1)) /dev/zero | tr '\0' x
        printf '"}\n{"id":41,"op":"get","key":"k"}\n{"id":42,"op":"get","key":"key-2"}\n{"id":43,"op":"ge'
    } >"$work/input"
    {
        cut -f2 "$work/lines"
        printf '{"id":null,"ok":false,"err":"%s\n' 'not JSON' 'not JSON' 'not JSON' 'the line is above 48 MiB'
        printf '%s\n' '{"id":40,"ok":false,"err":"too large' '{"id":41,"ok":true,"out":null}' '{"id":42,"ok":true,"out":"value-2"}' \
            '{"id":null,"ok":false,"err":"not JSON'
    } >"$work/want"
    n_checks=$((n_checks + $(wc -l <"$work/want")))
    "$bin/shardkv-cli" pipe <"$work/input" >"$work/out" 2>"$work/err" || fail "pipe ended with exit code $?"
    [ ! -s "$work/err" ] || fail "pipe said something on stderr"
    paste -d '\t' "$work/want" "$work/out" | awk -F '\t' 'index($2, $1) != 1 || $1 == "" { print; bad = 1 } END { exit bad }' >"$work/wrong" ||
        fail "a reply of pipe is not as expected: $(head -c 1000 "$work/wrong")"
    [ "$(wc -l <"$work/out")" = "$(wc -l <"$work/want")" ] || fail "pipe gave another number of replies"
}

# copy FROM: a fresh copy of a data directory in $data; what was not written stays a hole.
copy() {
    rm -rf "$data"
    cp -r --sparse=always "$1" "$data"
}
# used_bytes FILE: without the zeros at its end.
used_bytes() {
    perl -e 'local $/; open(my $in, "<:raw", $ARGV[0]) or die; $_ = <$in>; s/\0+\z//; print length' "$1"
}
corrupt() {
    refused 3 "$1" "${node[@]}" --data "$data"
}
starts_again() {
    starts "${node[@]}" --data "$data"
    stop_server TERM
}

# What was acknowledged must not be served from a directory that has lost it.
test_damage() {
    local db wal last file
    node=("$bin/shardkv" --gid 1 --id 1 --cluster "$spec_g1" --ctrlers "$ctrler_urls")
    cluster kill g1-1
    killed=$dir/g1-1
    db=$data/state/db-1
    wal=$(ls "$killed"/wal/*.wal | awk 'NR == 1')
    wal=${wal##*/}

    copy "$killed"
    starts_again
    copy "$killed"
    put_bytes "$data/wal/$wal" 20000 XYZXYZXYZXYZ # more than padding is long
    corrupt "$data/wal/[0-9]+.wal at offset [0-9]+: .*start it with --rebuild"
    copy "$killed"
    put_bytes "$data/wal/$wal" 9 X
    corrupt "$data/wal/[0-9]+.wal at offset [0-9]+: .*start it with --rebuild"
    copy "$killed"
    rm "$data/wal/$wal"
    corrupt "$data/wal/[0-9]+.wal at offset 0: .*start it with --rebuild"
    copy "$killed"
    cp "$data/wal/$wal" "$data/wal/00000077.wal"
    corrupt "$data/wal/00000077.wal at offset 0: a misplaced segment"
    copy "$killed"
    rm -r "$data/wal"
    corrupt "$data/wal: the Raft log is gone.*start it with --rebuild"
    corrupt "$data/wal: the Raft log is gone.*start it with --rebuild" # and stays refused
    # A tail that was cut is what a power loss leaves.
    copy "$killed"
    last=$(ls "$data"/wal/*.wal | tail -n 1)
    truncate -s $(($(used_bytes "$last") * 9 / 10)) "$last"
    starts_again
    copy "$killed"
    rm -r "$data/state"
    corrupt "$data/state/CURRENT is missing.*start it with --rebuild"
    copy "$killed"
    rm "$data/state/CURRENT"
    corrupt "$data/state/CURRENT is missing.*start it with --rebuild"
    copy "$killed"
    head -c 14 /dev/urandom >"$data/state/CURRENT"
    corrupt "$data/state/CURRENT is damaged; start it with --rebuild"
    copy "$killed"
    rm -r "$db"
    corrupt "$db is missing; start it with --rebuild"
    for file in $(cd "$killed/state/db-1" && find . -name '*.log' -size +0 -o -name 'MANIFEST-*' -o -name CURRENT -o -name '*.ldb'); do
        file=${file#./}
        copy "$killed"
        put_bytes "$db/$file" $(($(stat -c %s "$db/$file") / 2)) XYZ
        corrupt "$data/state.*; start it with --rebuild"
        copy "$killed"
        rm "$db/$file"
        corrupt "$data/state.*; start it with --rebuild"
        copy "$killed"
        truncate -s $(($(stat -c %s "$db/$file") / 2)) "$db/$file"
        corrupt "$data/state.*; start it with --rebuild"
    done
    rm -rf "$data"
    cluster restart g1-1
    check_nothing_lost "by refused starts"

    # The directory of a replica of another cluster: its log says so.
    cluster stop g1-1
    copy "$dir/g1-1"
    forge_meta "$dir/g1-1/META" "$data/META" 16 "$(($(od -An -tu1 -j16 -N1 "$dir/g1-1/META") ^ 1))"
    ends 2 "${node[@]}" --data "$data"
    grep -q 'belongs to another cluster' <<<"$(messages)" || fail "the other cluster is not named"
    rm -rf "$data"
    cluster kill ctrl-1
    copy "$dir/ctrl-1"
    wal=$data/wal/00000001.wal
    put_bytes "$wal" $(($(used_bytes "$wal") / 2)) XYZXYZXYZXYZ
    cp "$wal" "$work/damaged"
    refused 3 "$wal at offset [0-9]+: .*nothing was changed: start it with --rebuild" "$bin/shardctrler" --id 1 --cluster "$spec_ctrl" --data "$data"
    cmp "$wal" "$work/damaged" || die "a damaged log was changed"
    # It is known once the log was replayed.
    ends 2 "$bin/shardctrler" --id 1 --cluster "$spec_ctrl" --data "$dir/ctrl-1" --shards 32
    [ "$(messages)" = "shardctrler: stopped: --shards is 32, but the cluster was created with 16" ] || fail "the shards are not named"
    cluster up --no-join >/dev/null
}

# ---- Hostile bytes

rss_kib() {
    awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}
test_hostile_bytes() {
    local name url pid what before after
    for name in ctrl-1 g1-1; do
        pid=$(cat "$dir/$name.pid")
        if [ "$name" = ctrl-1 ]; then url=$spec_ctrl; else url=$spec_g1; fi
        before=$(rss_kib "$pid")
        for what in garbage frames hellos messages requests slow silent flood; do
            timeout 240 "$build/tests/hostile_client" "${url##*:}" "$what" "${spec_g1#1=}" >"$work/out" 2>"$work/err" || fail "$name: hostile_client $what"
            n_checks=$((n_checks + 1))
            cli put "during-$what" "$name" || fail "$name does not serve others after $what"
            [ "$(cli get "during-$what")" = "$name" ] || fail "$name serves wrong values after $what"
        done
        after=$(rss_kib "$pid")
        say "   $name: $before KiB resident before, $after KiB after"
        [ -n "${SHARDKV_SANITIZED:-}" ] || [ "$after" -lt $((before + (200 << 10))) ] || die "$name grew by $((after - before)) KiB"
        [ "$pid" = "$(cat "$dir/$name.pid")" ] && kill -0 "$pid" || die "$name died"
    done
}

step "flags"
test_flags
rm -rf "$data" # some are found wrong only when the port is opened
step "the settings file and the environment"
test_file_and_environment
step "data directories"
test_data_directory
rm -rf "$data"

step "a cluster"
cluster up --groups 1 --replicas 1 --ctrlers 1 --shards 16 >/dev/null
# shellcheck disable=SC1091
source "$dir/cluster.env"
export SHARDKV_CTRLERS=$ctrler_urls
puts "$n_keys" | cli pipe >"$work/replies"
head -c $((16 << 20)) /dev/urandom >"$work/big"
for ((i = 1; i <= n_big; i++)); do cli --timeout 60000 put "big-$i" - <"$work/big"; done
check_nothing_lost "at once"
step "verbs"
test_cli_usage
test_cli_without_servers
step "pipe"
test_pipe
step "damaged files"
test_damage
check_nothing_lost "by damage"
step "hostile bytes"
test_hostile_bytes
check_nothing_lost "by hostile bytes"
cluster stop g1-1
cluster restart g1-1
check_nothing_lost "by a restart"
cluster down >/dev/null
grep -hE 'Sanitizer|runtime error|assertion failed' "$dir"/*.log && die "a server failed, or did not end cleanly"
say "bad input OK: $n_checks checks in $SECONDS s"
