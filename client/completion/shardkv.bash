# bash completion for the servers, shardkv and shardctrler: source it, or put it into
# /usr/share/bash-completion/completions/ as shardkv and as shardctrler.
_shardkv() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local options='--id --cluster --data --join --rebuild --config --election-timeout --heartbeat --disk-reserve
        --disk-low --metrics --tls-cert --tls-key --tls-ca --peer-key --log-level --version --help'

    case $prev in
    --config | --tls-cert | --tls-key | --tls-ca | --peer-key)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --data)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --log-level)
        mapfile -t COMPREPLY < <(compgen -W 'error warn info debug' -- "$cur")
        return
        ;;
    esac
    case ${COMP_WORDS[0]##*/} in
    shardctrler) options="$options --shards" ;;
    *) options="$options --gid --ctrlers --migration-rate --migration-parallel" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}
complete -F _shardkv shardkv shardctrler
